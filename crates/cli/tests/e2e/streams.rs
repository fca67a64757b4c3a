//! Bytes through the tunnel: local ports and sockets, half-close, much of it, and the ends.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;

use comity_testkit::foreign::Running;
use nix::sys::signal::Signal;

use crate::backend;
use crate::home::{Home, Pair, assert_says, expect_exit};
use crate::serving::send;

#[test]
fn services_and_local_ends_may_be_unix_sockets() {
    let folder = Home::empty();
    let (target, local) = (folder.beside("target.sock"), folder.beside("local.sock"));
    backend::unix_echo(&target);
    let pair = Pair::new(&[&format!("unix:{}", target.display())], &["default"]);
    let place = format!("unix:{}", local.display());
    let forward = pair
        .client
        .start(&["connect", "server", "--listen", &place]);
    forward.wait_for(&format!("listening on {place}\n"));
    for text in ["one", "two"] {
        let mut stream = UnixStream::connect(&local).expect("connected");
        stream.write_all(text.as_bytes()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, text);
    }
}

#[test]
fn a_socket_left_over_from_a_killed_process_is_replaced_and_a_live_one_is_not() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let place = format!("unix:{}", pair.client.beside("local.sock").display());
    let args = ["connect", "server", "--listen", &place];
    // One that is told to end takes its socket away.
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let ended = pair.client.start(&args);
        ended.wait_for("listening on");
        send(&ended, signal);
        ended.finish().expect_success();
        assert!(!pair.client.beside("local.sock").exists());
    }
    let killed = pair.client.start(&args);
    killed.wait_for("listening on");
    assert_says(&pair.client.unable(&args), &["cannot listen on"]);
    drop(killed);
    let next = pair.client.start(&args);
    next.wait_for("listening on");
}

#[test]
fn a_local_port_may_be_written_with_a_colon() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let forward = pair.client.start(&["connect", "server", "--listen", ":0"]);
    forward.wait_for("listening on 127.0.0.1:");
}

#[test]
fn a_local_port_carries_several_connections_at_once() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let forward = pair.client.connect_on_port(&["server"]);
    let mut streams: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(forward.address).expect("connected"))
        .collect();
    // All are open before the first byte goes through any, and they are read in reverse.
    for (number, stream) in streams.iter_mut().enumerate() {
        write!(stream, "number {number}").expect("sent");
    }
    for (number, stream) in streams.iter_mut().enumerate().rev() {
        stream.shutdown(Shutdown::Write).expect("half-closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, format!("number {number}"));
    }
}

#[test]
fn each_direction_ends_by_itself() {
    // The backend speaks first and ends its side; the client's bytes still arrive.
    let (sender, got) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = listener.local_addr().expect("bound");
    thread::spawn(move || {
        // `connect --listen` looks once whether it would be let in.
        drop(listener.accept().expect("a connection"));
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"the answer").expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        let mut bytes = String::new();
        stream.read_to_string(&mut bytes).expect("the question");
        sender.send(bytes).expect("the test waits");
    });
    let pair = Pair::new(&[&target.to_string()], &["default"]);
    let forward = pair.client.connect_on_port(&["server"]);
    let mut stream = TcpStream::connect(forward.address).expect("connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "the answer");
    stream.write_all(b"the question, late").expect("still open");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let question = got.recv_timeout(comity_testkit::foreign::PATIENCE);
    assert_eq!(question.expect("it arrived"), "the question, late");
}

#[test]
fn the_end_of_standard_input_is_passed_on_and_the_answer_awaited() {
    // The backend answers only after the end of the question.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut question = String::new();
        stream.read_to_string(&mut question).expect("the question");
        write!(stream, "{} bytes", question.len()).expect("sent");
    });
    let pair = Pair::new(&[&target.to_string()], &["default"]);
    assert_eq!(
        pair.connect("server", b"question").expect_success().out(),
        "8 bytes"
    );
}

#[test]
fn the_end_of_the_answer_ends_the_command_although_its_input_is_open() {
    let pair = Pair::new(&[&backend::greeter("bye\n").to_string()], &["default"]);
    // The shell tells of the end while the input is still open.
    let connect = pair.client.command(&["connect", "server"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\"; echo \"ended with $?\"", "sh"]);
    shell.arg(connect.get_program()).args(connect.get_args());
    let running = Running::start(&mut shell);
    running.wait_for("bye\nended with 0");
}

/// Not a divisor of anything that a buffer might be: shifted or repeated bytes never look right.
const BLOCK: usize = 1_000_003;
const TOTAL: usize = 64 << 20;

fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    next.take(BLOCK).collect()
}

fn send_pattern(stream: &mut TcpStream) {
    let block = pattern();
    let mut left = TOTAL;
    while left > 0 {
        let length = left.min(BLOCK);
        stream.write_all(&block[..length]).expect("sent");
        left -= length;
    }
    stream.shutdown(Shutdown::Write).expect("half-closed");
}

/// Reads to the end, and gives how many bytes came before the first wrong one.
fn receive_pattern(stream: &mut TcpStream) -> usize {
    let block = pattern();
    let (mut buffer, mut total) = (vec![0; BLOCK], 0);
    loop {
        let at = total % BLOCK;
        let read = stream.read(&mut buffer[..BLOCK - at]).expect("bytes");
        if read == 0 || buffer[..read] != block[at..at + read] {
            return total;
        }
        total += read;
    }
}

fn both_ways(mut stream: TcpStream) -> usize {
    let mut reading = stream.try_clone().expect("a second handle");
    let receiver = thread::spawn(move || receive_pattern(&mut reading));
    send_pattern(&mut stream);
    receiver.join().expect("no panic")
}

#[test]
fn sixty_four_megabytes_go_both_ways_at_once_and_arrive_unchanged() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target: SocketAddr = listener.local_addr().expect("bound");
    let far = thread::spawn(move || {
        // `connect --listen` looks once whether it would be let in.
        drop(listener.accept().expect("a connection"));
        both_ways(listener.accept().expect("a connection").0)
    });
    let pair = Pair::new(&[&target.to_string()], &["default"]);
    let forward = pair.client.connect_on_port(&["server"]);
    let near = both_ways(TcpStream::connect(forward.address).expect("connected"));
    assert_eq!((near, far.join().expect("no panic")), (TOTAL, TOTAL));
}

#[test]
fn a_server_that_stops_in_the_middle_is_an_error_and_not_an_end() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let open = pair.client.start(&["connect", "server"]);
    open.write(b"half\n");
    open.wait_for("half");
    // Killed: there is no farewell, and what came so far may not be all.
    drop(pair.serving);
    let finished = open.finish();
    let said = expect_exit(finished, 2, &["connect"]).err();
    assert_says(
        &said,
        &["the connection to server was cut off: what came may not be all"],
    );
}
