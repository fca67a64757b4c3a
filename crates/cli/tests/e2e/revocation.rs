//! Authority ends at once: what happens to open connections when the store changes.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use comity_testkit::foreign::{Listening, Running};

use crate::backend;
use crate::home::{Home, Pair, assert_says, invite};

/// From the end of the command that changed the store to the end of the connection.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A pair with an open connection that has carried bytes both ways.
fn open_connection() -> (Pair, Running) {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let open = pair.client.start(&["connect", "server"]);
    open.write(b"open\n");
    open.wait_for("open");
    (pair, open)
}

/// Waits until the command says that its connection ended, while its input stays open. Gives how
/// long that took, and all it said.
fn time_to_end(open: Running) -> (Duration, String) {
    let since = Instant::now();
    open.wait_for("the connection to server");
    let took = since.elapsed();
    (took, open.finish().err())
}

#[test]
fn revoking_a_peer_in_another_process_ends_its_connection_within_a_second() {
    let (pair, open) = open_connection();
    pair.server.yes(&["trust", "revoke", "client"]);
    let (took, _) = time_to_end(open);
    assert!(took < AT_ONCE, "{took:?}");
    pair.serving.running.wait_for("connection ended");
    assert_says(&pair.serving.running.said(), &["reason=\"revoked\""]);
    pair.client.no(&["connect", "server"]);
}

#[test]
fn removing_a_peer_in_another_process_ends_its_connection_within_a_second() {
    let (pair, open) = open_connection();
    pair.server.yes(&["trust", "remove", "client"]);
    let (took, _) = time_to_end(open);
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
fn the_dialling_side_ends_its_connections_as_well() {
    for deed in ["revoke", "remove"] {
        let (pair, open) = open_connection();
        pair.client.yes(&["trust", deed, "server"]);
        let (took, said) = time_to_end(open);
        assert!(took < AT_ONCE, "{deed}: {took:?}");
        assert_says(&said, &["the connection was ended"]);
    }
}

#[test]
fn a_forwarded_connection_ends_too_and_the_local_client_sees_it() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let forward = pair.client.connect_on_port(&["server"]);
    let mut stream = TcpStream::connect(forward.address).expect("connected");
    std::io::Write::write_all(&mut stream, b"x").expect("sent");
    stream.read_exact(&mut [0]).expect("echoed");
    pair.server.yes(&["trust", "revoke", "client"]);
    let since = Instant::now();
    // An end or a reset, but not a wait.
    let ended = stream.read(&mut [0]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
}

#[test]
fn taking_a_service_away_ends_the_connections_to_it() {
    let (pair, open) = open_connection();
    let without = pair.server.known_peers().replace(" for=default", "");
    edit(&pair.server, &without);
    let (took, _) = time_to_end(open);
    assert!(took < AT_ONCE, "{took:?}");
    pair.serving.running.wait_for("not-authorised");
}

#[test]
fn a_line_deleted_by_hand_counts_like_a_removal() {
    let (pair, open) = open_connection();
    let known = pair.server.known_peers();
    let rest: Vec<&str> = known
        .lines()
        .filter(|line| !line.contains("client"))
        .collect();
    edit(&pair.server, &format!("{}\n", rest.join("\n")));
    let (took, _) = time_to_end(open);
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
fn a_bad_edit_alarms_and_keeps_known_peers_working_and_lets_nobody_new_in() {
    let (pair, open) = open_connection();
    let good = pair.server.known_peers();
    edit(&pair.server, &format!("{good}both oops\n"));
    pair.serving.running.wait_for("known_peers:3");
    open.write(b"still open\n");
    open.wait_for("still open");
    let again = pair.connect("server", b"known as before").expect_success();
    assert_eq!(again.out(), "known as before");
    let stranger = Home::new();
    let address = pair.serving.address.to_string();
    stranger.no(&["connect", &address, "--trust", "tofu"]);
    // Mended, it is taken up again.
    edit(&pair.server, &format!("{good}# a comment\n"));
    pair.server.yes(&["trust", "revoke", "client"]);
    let (took, _) = time_to_end(open);
    assert!(took < AT_ONCE, "{took:?}");
    assert_says(&pair.server.known_peers(), &["# a comment"]);
}

#[test]
fn revoking_ends_an_upload_that_the_backend_does_not_read() {
    let pair = Pair::new(&[&backend::silent().to_string()], &["default"]);
    let endless = Stdio::from(fs::File::open("/dev/zero").expect("a device"));
    let blocked = start_blocked(&pair, endless, Stdio::null());
    pair.server.yes(&["trust", "revoke", "client"]);
    assert_ends_at_once(blocked);
}

#[test]
fn revoking_ends_a_connection_whose_peer_has_finished_sending() {
    let pair = Pair::new(&[&backend::silent().to_string()], &["default"]);
    let waiting = start_blocked(&pair, Stdio::null(), Stdio::null());
    pair.server.yes(&["trust", "revoke", "client"]);
    assert_ends_at_once(waiting);
}

#[test]
fn revoking_ends_a_download_that_nobody_reads() {
    let pair = Pair::new(&[&backend::flood().to_string()], &["default"]);
    let blocked = start_blocked(&pair, Stdio::piped(), Stdio::piped());
    pair.client.yes(&["trust", "revoke", "server"]);
    assert_ends_at_once(blocked);
}

#[test]
fn a_peer_that_takes_all_its_places_leaves_room_for_others_and_can_be_revoked() {
    // Two hundred descriptors are room for 27 tunnels, 14 of them for one peer.
    let server = Home::new();
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -n 200; exec \"$0\" \"$@\"");
    let target = backend::echo().to_string();
    let serve = server.command(&["serve", &target, "--listen", "127.0.0.1:0"]);
    command
        .env_clear()
        .envs(serve.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.arg(serve.get_program()).args(serve.get_args());
    let serving = Listening::start_on_its_own_port(&mut command, b"", "listening on ");
    let [greedy, modest] = ["greedy", "modest"].map(|label| {
        let client = Home::new();
        let invitation = invite(&server, &serving, label, &["default"]);
        client.yes(&["join", &invitation, "--as", "server"]);
        client
    });
    let forward = greedy.connect_on_port(&["server"]);
    let open: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(forward.address).expect("connected"))
        .collect();
    let carries = |mut stream: &TcpStream| {
        let sent = std::io::Write::write_all(&mut stream, b"x");
        sent.is_ok() && matches!(stream.read(&mut [0]), Ok(1))
    };
    let carrying: Vec<&TcpStream> = open.iter().filter(|stream| carries(stream)).collect();
    assert_eq!(carrying.len(), 14);
    let other = modest
        .talk(&["connect", "server"], b"hello")
        .expect_success();
    assert_eq!(other.out(), "hello");
    server.yes(&["trust", "revoke", "greedy"]);
    let since = Instant::now();
    for mut stream in carrying {
        // An end or a reset, but not a wait.
        drop(stream.read(&mut [0]));
    }
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
}

/// `comity connect server` with these streams, once the server has accepted it.
fn start_blocked(pair: &Pair, input: Stdio, output: Stdio) -> Child {
    let mut command = pair.client.command(&["connect", "server"]);
    let child = command.stdin(input).stdout(output).stderr(Stdio::null());
    let child = child.spawn().expect("comity starts");
    pair.serving.running.wait_for("service=default");
    child
}

fn assert_ends_at_once(mut child: Child) {
    let since = Instant::now();
    while child.try_wait().expect("a child of ours").is_none() {
        if since.elapsed() > AT_ONCE {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
            panic!("it still ran after {AT_ONCE:?}");
        }
        // A child's end sends no event to a thread.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// As editors do: a new file, moved into place.
fn edit(home: &Home, text: &str) {
    let path = home.path().join("known_peers");
    let new = home.path().join("known_peers.edited");
    fs::write(&new, text).expect("written");
    let mode = fs::metadata(&path).expect("there").permissions();
    fs::set_permissions(&new, mode).expect("set");
    fs::rename(new, path).expect("moved");
}
