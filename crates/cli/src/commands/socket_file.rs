//! A Unix socket at a path: ours alone while we run, and gone afterwards.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket};

/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: u32 = 128;

/// The file of a listening socket. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: who replaced the file keeps theirs.
    place: (u64, u64),
}

impl SocketFile {
    /// Listens at the path, for this user alone: whoever connects acts in our name.
    ///
    /// # Errors
    /// When somebody listens there, something else than a left-over socket is there, or the folder
    /// cannot be written.
    pub(crate) fn listen(path: &Path) -> io::Result<(UnixListener, Self)> {
        remove_left_over(path);
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = Self {
            path: path.to_owned(),
            place: place_of(path)?,
        };
        // Before anybody can connect: a socket that is bound and does not listen refuses.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok((socket.listen(BACKLOG)?, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if place_of(&self.path).is_ok_and(|place| place == self.place) {
            drop(fs::remove_file(&self.path));
        }
    }
}

fn place_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A socket that refuses connections is left over from a process that was killed. Any other failure,
/// such as a full backlog or a missing permission, says nothing of the kind.
fn remove_left_over(path: &Path) {
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|m| m.file_type().is_socket());
    let refuses = || match UnixStream::connect(path) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    };
    if is_socket && refuses() {
        drop(fs::remove_file(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::TempDir::new().expect("a folder")
    }

    #[tokio::test]
    async fn only_its_owner_may_connect_and_it_goes_with_us() {
        let folder = folder();
        let path = folder.path().join("s");
        let (_listener, file) = SocketFile::listen(&path).expect("listens");
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).expect("connects");
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_anything_else_is_not() {
        let folder = folder();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        let (_listener, _file) = SocketFile::listen(&path).expect("a left-over one is replaced");
        let error = SocketFile::listen(&path).expect_err("a live one is not");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let other = folder.path().join("file");
        fs::write(&other, "precious").expect("written");
        assert!(SocketFile::listen(&other).is_err());
        assert_eq!(fs::read(&other).expect("there"), b"precious");
    }

    #[tokio::test]
    async fn a_file_that_somebody_else_put_there_stays() {
        let folder = folder();
        let path = folder.path().join("s");
        let (_listener, file) = SocketFile::listen(&path).expect("listens");
        // The new one first, so that it cannot get the inode of the old one.
        let new = folder.path().join("new");
        fs::write(&new, "theirs").expect("written");
        fs::rename(&new, &path).expect("replaced");
        drop(file);
        assert_eq!(fs::read(&path).expect("there"), b"theirs");
    }
}
