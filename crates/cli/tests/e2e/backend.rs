//! Services on this machine, as they stand behind `comity serve`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use comity_testkit::foreign::PATIENCE;

/// Sends back what comes, and ends its side when the other side ended. Lives as long as the test.
pub(crate) fn echo() -> SocketAddr {
    serve(|mut stream| {
        let mut back = stream.try_clone().expect("a second handle");
        // A connection that breaks ends the copy: the test sees it from the other side.
        drop(io::copy(&mut stream, &mut back));
        drop(back.shutdown(Shutdown::Write));
    })
}

/// The same on a Unix socket.
pub(crate) fn unix_echo(path: &Path) {
    let listener = UnixListener::bind(path).expect("a free path");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut back = stream.try_clone().expect("a second handle");
                drop(io::copy(&mut stream, &mut back));
                drop(back.shutdown(Shutdown::Write));
            });
        }
    });
}

/// Says a word to each connection, without waiting for anything, and closes.
pub(crate) fn greeter(word: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        drop(stream.write_all(word.as_bytes()));
        drop(stream.shutdown(Shutdown::Write));
        drop(stream.read_to_end(&mut Vec::new()));
    })
}

/// Takes connections and neither reads nor writes.
pub(crate) fn silent() -> SocketAddr {
    serve(|stream| {
        // Open for as long as the process lives.
        std::mem::forget(stream);
    })
}

/// Sends without end to each connection.
pub(crate) fn flood() -> SocketAddr {
    serve(|mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {})
}

/// A web server with one page, `hello from the backend`.
pub(crate) fn web() -> SocketAddr {
    serve(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let page = "hello from the backend\n";
        drop(write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        ));
        drop(stream.shutdown(Shutdown::Write));
    })
}

/// Writes down every byte it gets, and answers none.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    /// What each connection sent until its end, in the order of the ends.
    ends: Receiver<Vec<u8>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let (sender, ends) = channel();
        // One at a time, so that the order of the ends is that of the connections.
        let address = serve_in_turn(move |mut stream| {
            let mut bytes = Vec::new();
            drop(stream.read_to_end(&mut bytes));
            drop(sender.send(bytes));
        });
        Self { address, ends }
    }

    /// What the next connection sent, once it ended.
    pub(crate) fn next(&self) -> Vec<u8> {
        let next = self.ends.recv_timeout(PATIENCE);
        next.expect("a connection that ends")
    }

    /// Insists that nobody ever connected. Our own connection comes after any other: when its
    /// bytes are the first to arrive, there was none.
    pub(crate) fn assert_untouched(&self) {
        let mut probe = TcpStream::connect(self.address).expect("connected");
        probe.write_all(b"the first").expect("sent");
        drop(probe);
        let first = self.next();
        assert_eq!(String::from_utf8_lossy(&first), "the first");
    }
}

/// Sends a text, ends that direction, and gives what comes back until the other side ends. A
/// connection that breaks gives what came before.
pub(crate) fn converse(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    drop(stream.write_all(text.as_bytes()));
    drop(stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

fn serve(service: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    serve_in_turn(move |stream| {
        let service = service.clone();
        thread::spawn(move || service(stream));
    })
}

fn serve_in_turn(service: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            service(stream.expect("a connection"));
        }
    });
    address
}
