//! What an authority has signed: a database of its certificates, `issued.redb`.
//!
//! 1. [`IssuedSession::reserve`] draws a serial number and makes it durable with everything that is
//!    known about the certificate, **before** anything is signed with it. So no serial is ever used
//!    twice, and after a crash between the two there is no certificate that nobody knows of: its
//!    reservation stays, counts as issued, and can be withdrawn by serial, key or label.
//! 2. [`IssuedSession::record`] adds the certificate.
//! 3. [`IssuedSession::withdraw`] says that it counts no more, and why.
//!
//! Nothing is ever removed. The file is locked while a session is open, so sessions are short: the
//! server that issues and the command line take turns. That lock is apart from the home's, so whoever
//! holds the one may take the other, the home's first.

use std::path::PathBuf;

use comity_identity::{KeyHash, UnixTime};
use data_encoding::HEXLOWER;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};
use thiserror::Error;

use crate::error::StoreError;
use crate::home::Home;
use crate::issued_file;

/// Bytes of a template's name or a reason.
pub const MAX_WORD: usize = 64;

/// Bytes of a label; a DNS name fits.
pub const MAX_ISSUED_LABEL: usize = 253;

/// Bytes of what a certificate attests: the limit of a metadata extension.
pub const MAX_ATTESTED: usize = 2048;

/// Bytes of a certificate; what we accept from others is a quarter of it.
pub const MAX_ISSUED_DER: usize = 64 << 10;

/// Bytes of a serial number. The first is from 0x40 to 0x7f, so that they are exactly the content
/// of the INTEGER in the certificate.
pub const SERIAL_BYTES: usize = 16;

/// The serial number of a certificate.
pub type Serial = [u8; SERIAL_BYTES];

/// The ledger of one authority; opened for a moment by [`IssuedLedger::open`].
#[derive(Clone, Debug)]
pub struct IssuedLedger {
    home: Home,
    path: PathBuf,
}

/// The ledger, and this process alone has it. Dropping it lets the next one in.
#[derive(Debug)]
pub struct IssuedSession {
    database: Database,
    path: PathBuf,
}

/// A certificate that is about to be signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Which template it is made from, at most [`MAX_WORD`] bytes.
    pub template: String,
    /// Whose key it certifies.
    pub key: KeyHash,
    /// The key that signs it.
    pub issuer: KeyHash,
    /// What the operator calls its holder, at most [`MAX_ISSUED_LABEL`] bytes.
    pub label: String,
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid.
    pub not_after: UnixTime,
    /// What it attests, as it stands in the certificate; empty for nothing. At most
    /// [`MAX_ATTESTED`] bytes.
    pub attested: Vec<u8>,
    /// The key that its holder committed to as the next one.
    pub next: Option<KeyHash>,
}

/// One certificate of the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedCertificate {
    /// Its serial number.
    pub serial: Serial,
    /// What was known before it was signed.
    pub about: Reservation,
    /// What became of it.
    pub state: IssuedState,
    /// The certificate; empty for one that was reserved and perhaps never signed.
    pub der: Vec<u8>,
}

/// What became of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IssuedState {
    /// Its serial number was drawn. Whether it was signed is not known.
    Reserved,
    /// It was signed.
    Issued,
    /// It counts no more.
    Withdrawn {
        /// Since when.
        at: UnixTime,
        /// Why, in a word or two.
        reason: String,
    },
}

/// Why the ledger was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// It could not be opened, read or made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No certificate has this serial number.
    #[error("no certificate has the serial number {}", HEXLOWER.encode(.0))]
    Unknown(Serial),
    /// Another certificate was recorded for this serial number before.
    #[error("the serial number {} is used by another certificate", HEXLOWER.encode(.0))]
    Used(Serial),
    /// A text or a certificate is too long.
    #[error("{what} of {found} bytes, at most {limit} are possible")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it may be.
        limit: usize,
    },
}

/// State, template, key, issuer, label, not before, not after, withdrawn at, reason, certificate,
/// attested, next key (or nothing).
type Row = (
    u8,
    &'static str,
    &'static [u8; 32],
    &'static [u8; 32],
    &'static str,
    u64,
    u64,
    u64,
    &'static str,
    &'static [u8],
    &'static [u8],
    &'static [u8],
);

type SerialKey = &'static [u8; SERIAL_BYTES];

const ISSUED: TableDefinition<SerialKey, Row> = TableDefinition::new("issued");
const BY_KEY: TableDefinition<(&[u8; 32], SerialKey), ()> = TableDefinition::new("by_key");
const BY_LABEL: TableDefinition<(&str, SerialKey), ()> = TableDefinition::new("by_label");
const BY_END: TableDefinition<(u64, SerialKey), ()> = TableDefinition::new("by_end");

const RESERVED: u8 = 0;
const SIGNED: u8 = 1;
const WITHDRAWN: u8 = 2;

const FIRST: Serial = [0; SERIAL_BYTES];
const LAST: Serial = [0xff; SERIAL_BYTES];

impl IssuedLedger {
    pub(crate) fn at(home: &Home, path: PathBuf) -> Self {
        let home = home.clone();
        Self { home, path }
    }

    /// Makes an empty ledger at `path`; its name is made durable by the caller.
    pub(crate) fn create(home: &Home, path: &std::path::Path) -> Result<(), StoreError> {
        issued_file::create(home.disk(), path, |database| {
            let transaction = begin(database)?;
            transaction.open_table(ISSUED)?;
            transaction.open_table(BY_KEY)?;
            transaction.open_table(BY_LABEL)?;
            transaction.open_table(BY_END)?;
            Ok(transaction.commit()?)
        })
    }

    /// Opens the ledger, waiting up to [`crate::LOCK_WAIT`] for other processes and threads.
    ///
    /// # Errors
    /// [`StoreError::Locked`] after that; [`StoreError::Missing`] if there is none: an authority
    /// that forgot what it signed issues nothing more. Otherwise when it cannot be relied upon.
    pub fn open(&self) -> Result<IssuedSession, StoreError> {
        let database = issued_file::open(self.home.disk(), &self.path)?;
        let path = self.path.clone();
        Ok(IssuedSession { database, path })
    }
}

impl IssuedSession {
    /// Draws a serial number and reserves it for a certificate. When this returns, it is durable.
    ///
    /// # Errors
    /// [`LedgerError::TooLong`], or when it cannot be written: then nothing may be signed.
    pub fn reserve(&self, about: &Reservation) -> Result<Serial, LedgerError> {
        about.check()?;
        loop {
            let serial = draw()?;
            let certificate = IssuedCertificate {
                serial,
                about: about.clone(),
                state: IssuedState::Reserved,
                der: Vec::new(),
            };
            if self.change(|tables| tables.insert(&certificate))? {
                return Ok(serial);
            }
        }
    }

    /// Records the certificate that was signed for a reservation, also if it was withdrawn
    /// meanwhile. Recording it twice changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`] without a reservation, [`LedgerError::Used`] if another certificate
    /// was recorded; or when it cannot be written. The certificate must then not be handed out.
    pub fn record(&self, serial: &Serial, der: &[u8]) -> Result<(), LedgerError> {
        bounded("a certificate", der.len(), MAX_ISSUED_DER)?;
        self.change(|tables| {
            let Some(mut found) = tables.get(serial)? else {
                return Ok(Err(LedgerError::Unknown(*serial)));
            };
            if found.der == der {
                return Ok(Ok(()));
            }
            if !found.der.is_empty() {
                return Ok(Err(LedgerError::Used(*serial)));
            }
            if found.state == IssuedState::Reserved {
                found.state = IssuedState::Issued;
            }
            found.der = der.to_vec();
            tables.put(&found)?;
            Ok(Ok(()))
        })?
    }

    /// Withdraws certificates, all or none, and returns those that were not withdrawn before.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`] for a serial number that we never drew, [`LedgerError::TooLong`], or
    /// when it cannot be written.
    pub fn withdraw(
        &self,
        serials: &[Serial],
        at: UnixTime,
        reason: &str,
    ) -> Result<Vec<IssuedCertificate>, LedgerError> {
        bounded("a reason", reason.len(), MAX_WORD)?;
        let transaction = self.begin()?;
        let mut withdrawn = Vec::new();
        {
            let mut tables = Tables::open(&transaction).map_err(|e| self.fault(e))?;
            for serial in serials {
                let found = tables.get(serial).map_err(|e| self.fault(e))?;
                let mut found = found.ok_or(LedgerError::Unknown(*serial))?;
                if matches!(found.state, IssuedState::Withdrawn { .. }) {
                    continue;
                }
                let reason = reason.to_owned();
                found.state = IssuedState::Withdrawn { at, reason };
                tables.put(&found).map_err(|e| self.fault(e))?;
                withdrawn.push(found);
            }
        }
        if !withdrawn.is_empty() {
            transaction.commit().map_err(|e| self.fault(e))?;
        }
        Ok(withdrawn)
    }

    /// Enters certificates that exist already, such as those of another ledger, in one step.
    ///
    /// # Errors
    /// [`LedgerError::Used`] if one of the serial numbers is there already; or when they cannot be
    /// written. Then none is entered.
    pub fn import(&self, certificates: &[IssuedCertificate]) -> Result<(), LedgerError> {
        for certificate in certificates {
            certificate.about.check()?;
            bounded("a certificate", certificate.der.len(), MAX_ISSUED_DER)?;
        }
        let transaction = self.begin()?;
        {
            let mut tables = Tables::open(&transaction).map_err(|e| self.fault(e))?;
            for certificate in certificates {
                if !tables.insert(certificate).map_err(|e| self.fault(e))? {
                    return Err(LedgerError::Used(certificate.serial));
                }
            }
        }
        transaction.commit().map_err(|e| self.fault(e))?;
        Ok(())
    }

    /// The certificate with a serial number.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn by_serial(&self, serial: &Serial) -> Result<Option<IssuedCertificate>, StoreError> {
        self.read(|issued, _| row(issued, serial))
    }

    /// All certificates for a key, in no order.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn by_key(&self, key: &KeyHash) -> Result<Vec<IssuedCertificate>, StoreError> {
        self.read(|issued, transaction| {
            let index = transaction.open_table(BY_KEY)?;
            let range = (key.as_bytes(), &FIRST)..=(key.as_bytes(), &LAST);
            let mut found = Vec::new();
            for entry in index.range(range)? {
                found.extend(row(issued, entry?.0.value().1)?);
            }
            Ok(found)
        })
    }

    /// All certificates of a label, in no order.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn by_label(&self, label: &str) -> Result<Vec<IssuedCertificate>, StoreError> {
        self.read(|issued, transaction| {
            let index = transaction.open_table(BY_LABEL)?;
            let mut found = Vec::new();
            for entry in index.range((label, &FIRST)..=(label, &LAST))? {
                found.extend(row(issued, entry?.0.value().1)?);
            }
            Ok(found)
        })
    }

    /// At most `limit` certificates whose last second is from `from` to before `before`, the first
    /// to end first; withdrawn ones as well.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn ending(
        &self,
        from: UnixTime,
        before: UnixTime,
        limit: usize,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        self.read(|issued, transaction| {
            let index = transaction.open_table(BY_END)?;
            let range = (from.as_secs(), &FIRST)..(before.as_secs(), &FIRST);
            let mut found = Vec::new();
            for entry in index.range(range)?.take(limit) {
                found.extend(row(issued, entry?.0.value().1)?);
            }
            Ok(found)
        })
    }

    /// At most `limit` certificates in the order of their serial numbers, those after `after`: give
    /// the last one of a page to get the next.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn page(
        &self,
        after: Option<&Serial>,
        limit: usize,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|issued, _| {
            issued
                .range::<&Serial>((start, Bound::Unbounded))?
                .take(limit)
                .map(|entry| {
                    let (serial, value) = entry?;
                    Ok(certificate(serial.value(), value.value()))
                })
                .collect()
        })
    }

    /// How many certificates there are, with reserved and withdrawn ones.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        self.read(|issued, _| Ok(issued.len()?))
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        begin(&self.database).map_err(|e| self.fault(e))
    }

    fn change<R>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        let transaction = self.begin()?;
        let made = Tables::open(&transaction).and_then(|mut tables| change(&mut tables));
        let made = made.map_err(|e| self.fault(e))?;
        transaction.commit().map_err(|e| self.fault(e))?;
        Ok(made)
    }

    fn read<R>(
        &self,
        read: impl FnOnce(&IssuedTable, &redb::ReadTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        let open = || {
            let transaction = self.database.begin_read()?;
            let issued = transaction.open_table(ISSUED)?;
            read(&issued, &transaction)
        };
        open().map_err(|error: redb::Error| self.fault(error))
    }

    fn fault(&self, error: impl Into<redb::Error>) -> StoreError {
        issued_file::fault(&self.path, error)
    }
}

impl Reservation {
    fn check(&self) -> Result<(), LedgerError> {
        bounded("a template's name", self.template.len(), MAX_WORD)?;
        bounded("what is attested", self.attested.len(), MAX_ATTESTED)?;
        bounded("a label", self.label.len(), MAX_ISSUED_LABEL)
    }
}

impl IssuedCertificate {
    /// Whether it counts at `now`: it was signed, or perhaps signed, is valid, and was not withdrawn.
    pub fn counts(&self, now: UnixTime) -> bool {
        !matches!(self.state, IssuedState::Withdrawn { .. }) && now <= self.about.not_after
    }
}

type IssuedTable = ReadOnlyTable<SerialKey, Row>;

/// The certificates and what leads to them, changed together.
struct Tables<'t> {
    issued: Table<'t, SerialKey, Row>,
    by_key: Table<'t, (&'static [u8; 32], SerialKey), ()>,
    by_label: Table<'t, (&'static str, SerialKey), ()>,
    by_end: Table<'t, (u64, SerialKey), ()>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            issued: transaction.open_table(ISSUED)?,
            by_key: transaction.open_table(BY_KEY)?,
            by_label: transaction.open_table(BY_LABEL)?,
            by_end: transaction.open_table(BY_END)?,
        })
    }

    fn get(&self, serial: &Serial) -> Result<Option<IssuedCertificate>, redb::Error> {
        row(&self.issued, serial)
    }

    /// Enters a certificate; `false` if its serial number is there already.
    fn insert(&mut self, new: &IssuedCertificate) -> Result<bool, redb::Error> {
        if self.issued.get(&new.serial)?.is_some() {
            return Ok(false);
        }
        let about = &new.about;
        self.by_key
            .insert((about.key.as_bytes(), &new.serial), ())?;
        self.by_label
            .insert((about.label.as_str(), &new.serial), ())?;
        self.by_end
            .insert((about.not_after.as_secs(), &new.serial), ())?;
        self.put(new)?;
        Ok(true)
    }

    fn put(&mut self, certificate: &IssuedCertificate) -> Result<(), redb::Error> {
        let IssuedCertificate {
            serial,
            about,
            state,
            der,
        } = certificate;
        let (state, at, reason) = match state {
            IssuedState::Reserved => (RESERVED, 0, ""),
            IssuedState::Issued => (SIGNED, 0, ""),
            IssuedState::Withdrawn { at, reason } => (WITHDRAWN, at.as_secs(), reason.as_str()),
        };
        let row = (
            state,
            about.template.as_str(),
            about.key.as_bytes(),
            about.issuer.as_bytes(),
            about.label.as_str(),
            about.not_before.as_secs(),
            about.not_after.as_secs(),
            at,
            reason,
            der.as_slice(),
            about.attested.as_slice(),
            about.next.as_ref().map_or(&[][..], |next| next.as_bytes()),
        );
        self.issued.insert(serial, row)?;
        Ok(())
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    // After a crash, whoever comes next is at work at once, however large the ledger is; and a
    // commit does not stand on checksums alone.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn row(
    issued: &impl ReadableTable<SerialKey, Row>,
    serial: &Serial,
) -> Result<Option<IssuedCertificate>, redb::Error> {
    let found = issued.get(serial)?;
    Ok(found.map(|found| certificate(serial, found.value())))
}

type RowValue<'r> = (
    u8,
    &'r str,
    &'r [u8; 32],
    &'r [u8; 32],
    &'r str,
    u64,
    u64,
    u64,
    &'r str,
    &'r [u8],
    &'r [u8],
    &'r [u8],
);

fn certificate(serial: &Serial, row: RowValue<'_>) -> IssuedCertificate {
    let (state, template, key, issuer, label, not_before, not_after, at, reason, der, ..) = row;
    let (.., attested, next) = row;
    IssuedCertificate {
        serial: *serial,
        about: Reservation {
            template: template.to_owned(),
            key: KeyHash::from_bytes(*key),
            issuer: KeyHash::from_bytes(*issuer),
            label: label.to_owned(),
            not_before: UnixTime::from_secs(not_before),
            not_after: UnixTime::from_secs(not_after),
            attested: attested.to_vec(),
            next: next.try_into().ok().map(KeyHash::from_bytes),
        },
        state: match state {
            RESERVED => IssuedState::Reserved,
            SIGNED => IssuedState::Issued,
            // Whatever is not understood does not count.
            _ => IssuedState::Withdrawn {
                at: UnixTime::from_secs(at),
                reason: reason.to_owned(),
            },
        },
        der: der.to_vec(),
    }
}

fn draw() -> Result<Serial, StoreError> {
    let mut serial = [0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|error| StoreError::Entropy {
        cause: error.to_string(),
    })?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

fn bounded(what: &'static str, found: usize, limit: usize) -> Result<(), LedgerError> {
    if found > limit {
        return Err(LedgerError::TooLong { what, found, limit });
    }
    Ok(())
}
