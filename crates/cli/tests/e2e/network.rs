//! The way between two nodes, in the hands of whoever sits in between.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// An address whose connections lead to wherever the attacker wishes. It sees only TCP.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) address: SocketAddr,
    leads_to: Arc<Mutex<SocketAddr>>,
}

impl Network {
    pub(crate) fn leading_to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let leads_to = Arc::new(Mutex::new(target));
        let shared = Arc::clone(&leads_to);
        thread::spawn(move || {
            for near in listener.incoming() {
                let target = *shared.lock().unwrap_or_else(PoisonError::into_inner);
                let near = near.expect("a connection");
                if let Ok(far) = TcpStream::connect(target) {
                    join(&near, &far);
                }
            }
        });
        Self { address, leads_to }
    }

    /// From now on connections lead elsewhere.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.leads_to.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }
}

fn join(near: &TcpStream, far: &TcpStream) {
    for (from, to) in [(near, far), (far, near)] {
        let mut from = from.try_clone().expect("a second handle");
        let mut to = to.try_clone().expect("a second handle");
        thread::spawn(move || {
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        });
    }
}
