//! Whether one certificate issued another.

use comity_certs::limits::MAX_CHAIN_BYTES;
use comity_certs::{Link, link};

use crate::certificates::Foreign;

#[test]
fn a_link_holds_only_below_the_key_that_signed() {
    let (ca, other) = (
        Foreign::authority("private CA").root(),
        Foreign::authority("other CA").root(),
    );
    let namesake = Foreign::authority("private CA").root();
    let leaf = Foreign::server("db1.example").issued_by(&ca).chain[0].clone();
    assert_eq!(link(&leaf, &ca.der), Ok(Link::Holds));
    assert_eq!(link(&leaf, &namesake.der), Ok(Link::NotSigned));
    assert_eq!(link(&leaf, &other.der), Ok(Link::Elsewhere));
    assert_eq!(link(&ca.der, &ca.der), Ok(Link::Holds));
    assert_eq!(link(&ca.der, &namesake.der), Ok(Link::NotSigned));
}

#[test]
fn what_is_no_certificate_has_no_link() {
    let ca = Foreign::authority("private CA").root();
    for not_one in [Vec::new(), vec![0x30; 64], vec![0x30; MAX_CHAIN_BYTES + 1]] {
        assert!(link(&not_one, &ca.der).is_err());
        assert!(link(&ca.der, &not_one).is_err());
    }
}
