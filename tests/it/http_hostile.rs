//! What strangers send, hold open, or leave unfinished: each gets its status and leaves the others
//! alone.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::{Client, PATH, post};
use crate::kafka::wait_until;
use crate::process::Process;
use crate::request::Request;
use crate::world::{Setup, World};

/// The head of a request for an OTP, without what says how long its body is.
fn head() -> String {
    format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
}

fn impatient() -> World {
    World::with(
        Setup::default()
            .set("HTTP__IDLE_TIMEOUT", "1s")
            .set("HTTP__BODY_TIMEOUT", "1s"),
    )
}

#[track_caller]
fn assert_serves(process: &Process, mobile: &str) {
    let answer = Client::connect(process).send(&Request::register(mobile));
    assert_eq!(answer.status, 201, "others are served");
}

#[test]
fn what_does_not_arrive_in_time_is_not_waited_for() {
    let world = impatient();
    let process = world.start("a");

    let mut body = Client::connect(&process);
    body.write(format!("{}Content-Length: 100\r\n\r\n{{", head()))
        .expect("it is taken");
    let mut chunked = Client::connect(&process);
    chunked
        .write(format!(
            "{}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n",
            head()
        ))
        .expect("it is taken");
    let mut half = Client::connect(&process);
    half.write(format!("{}Content-Length: 100\r\n\r\n{{", head()))
        .expect("it is taken");
    half.finish_writing();
    let answer = half.answer().map(|answer| answer.status);
    assert!(
        matches!(answer, Ok(400) | Err(_)),
        "half a body: {answer:?}"
    );
    let mut silent = Client::connect(&process);
    let mut slow_head = Client::connect(&process);
    slow_head.write(head()).expect("it is taken");
    assert_serves(&process, "9876550001");
    for (name, client) in [("length", &mut body), ("chunks", &mut chunked)] {
        let answer = client.answer().expect(name);
        assert_eq!(answer.status, 408, "{name}");
        assert_eq!(answer.header("connection"), Some("close"), "{name}");
        assert!(client.is_closed(), "{name}");
    }
    assert!(silent.is_closed() && slow_head.is_closed());
    assert_eq!(world.sms().len(), 1);
}

#[test]
fn a_byte_at_a_time_does_not_hold_a_request_open() {
    let world = impatient();
    let process = world.start("a");
    let mut body = Client::connect(&process);
    body.write(format!("{}Content-Length: 1000\r\n\r\n", head()))
        .expect("it is taken");
    let mut sent = 0;
    // Each byte comes well within the time that a whole body has.
    while sent < 1_000 && body.write(" ").is_ok() {
        sent += 1;
        #[expect(clippy::disallowed_methods, reason = "the pace of a slow client")]
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(sent < 1_000, "it was cut off before its end");
    assert_serves(&process, "9876550101");
}

#[track_caller]
fn assert_is_the_end(client: &mut Client, name: &str) {
    let more = client.answer();
    assert!(more.is_err(), "{name}: another answer, {more:?}");
    assert!(client.is_closed(), "{name}: it is still open");
}

#[test]
fn no_smuggled_request_is_served() {
    // It is closed for what it said, and not for its silence afterwards.
    let world = World::with(Setup::default().set("HTTP__IDLE_TIMEOUT", "10m"));
    let process = world.start("a");
    let inner = post(&Request::register("9876551999").body(), &[]);
    let length = |length: usize| format!("Content-Length: {length}\r\n");
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    let cases: [(&str, String); 8] = [
        (
            "two lengths",
            format!("{}{}{}\r\n{inner}", head(), length(0), length(inner.len())),
        ),
        (
            "odd length",
            format!("{}Content-Length: +5\r\n\r\n{inner}", head()),
        ),
        (
            "lengths in one",
            format!("{}Content-Length: 0, 5\r\n\r\n{inner}", head()),
        ),
        (
            "odd coding",
            format!(
                "{}Transfer-Encoding: xchunked\r\n{}\r\n{inner}",
                head(),
                length(0)
            ),
        ),
        (
            "coding last",
            format!(
                "{}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}",
                head()
            ),
        ),
        (
            "space before the colon",
            format!("{}Content-Length : 0\r\n\r\n{inner}", head()),
        ),
        (
            "both",
            format!("{}{CHUNKED}{}\r\n0\r\n\r\n{inner}", head(), length(4)),
        ),
        (
            "both, the other way round",
            format!("{}{}{CHUNKED}\r\n0\r\n\r\n{inner}", head(), length(4)),
        ),
    ];
    for (name, request) in &cases {
        let mut client = Client::connect(&process);
        client.write(request).expect("it is taken");
        let answer = client.answer().expect(name);
        assert_eq!(answer.status, 400, "{name}");
        assert_is_the_end(&mut client, name);
    }
    // In one chunk whose size is written otherwise than it may be; in clear it would be served.
    let body = Request::register("9876551998").body();
    let size = body.len();
    for (name, size) in [
        ("size", format!("{size:x} x")),
        ("negative size", format!("-{size:x}")),
        ("size with a prefix", format!("0x{size:x}")),
        ("huge size", format!("1{size:016x}")),
        ("no line end", format!("{:x}", size - 3)),
    ] {
        let mut client = Client::connect(&process);
        let chunks = format!("{size}\r\n{body}\r\n0\r\n\r\n");
        client
            .write(format!("{}{CHUNKED}\r\n{chunks}{inner}", head()))
            .expect("it is taken");
        let answer = client.answer().map(|answer| answer.status);
        assert!(
            matches!(answer, Ok(400 | 413) | Err(_)),
            "{name}: {answer:?}"
        );
        assert_is_the_end(&mut client, name);
    }
    assert!(
        world.egov.journal().is_empty(),
        "nobody was asked for anything"
    );
    assert_serves(&process, "9876551001");
}

#[test]
fn large_deep_and_many_is_bounded() {
    let world = World::new();
    let process = world.start("a");
    let number = r#""tenantId":"pb.amritsar","mobileNumber":"9876552001""#;
    let deep = format!(
        r#"{{"x":{}1{},"otp":{{{number}}}}}"#,
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    assert_eq!(Client::connect(&process).post(&deep, &[]).status, 201);
    let unclosed = "[".repeat(60_000);
    assert_eq!(Client::connect(&process).post(&unclosed, &[]).status, 400);
    let twice = r#"{"otp":{"mobileNumber":"1","mobileNumber":"9876552002","tenantId":"pb"},"otp":{"mobileNumber":"9876552003","tenantId":"pb.amritsar"}}"#;
    assert_eq!(Client::connect(&process).post(twice, &[]).status, 201);
    assert_eq!(
        world.egov.otp_of("9876552003").len(),
        1,
        "the last one counts"
    );

    let mut large = Client::connect(&process);
    large
        .write(format!("{}Content-Length: 5242880\r\n\r\n", head()))
        .expect("it is taken");
    assert_eq!(
        large.answer().expect("before any of it is sent").status,
        413
    );

    let mut bomb = Client::connect(&process);
    let many: String = (0..500)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    // It may be cut off while it still writes.
    let _ = bomb.write(format!("{}{many}\r\n", head()));
    assert_eq!(bomb.answer().expect("headers").status, 431);
    let mut long = Client::connect(&process);
    let _ = long.write(format!("{}x: {}\r\n\r\n", head(), "y".repeat(100_000)));
    assert!(matches!(
        long.answer().map(|answer| answer.status),
        Ok(431) | Err(_)
    ));
    let mut junk = Client::connect(&process);
    junk.write([0_u8, 1, 255, 13, 10, 13, 10])
        .expect("it is taken");
    assert_eq!(junk.answer().expect("an answer").status, 400);
    assert_serves(&process, "9876552004");
}

/// What a process has open, connections among it.
fn open_files(process: &Process) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id()));
    open.map_or(0, |open| open.count() as u64)
}

#[test]
fn ten_thousand_idle_connections_leave_the_others_alone() {
    // What other tests have open meanwhile, and the process besides its connections.
    const OTHERS: u64 = 1_000;
    const CLIENTS: u64 = 8;
    // As many as are allowed, for this and the process that it starts.
    let (_, allowed) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, allowed, allowed).expect("what is allowed");
    let idle = allowed.saturating_sub(OTHERS).min(10_000);
    let world = World::with(
        Setup::default()
            .set("HTTP__IDLE_TIMEOUT", "10m")
            .set("HTTP__CONNECTIONS", "20000"),
    );
    let process = world.start("a");
    let port = process.http_port();
    let before = open_files(&process);
    let open = || {
        let connect = |number| {
            let mut client = Client::to(port).expect("it is taken");
            if number % 2 == 0 {
                client.write("POST /user").expect("half a line");
            }
            client
        };
        (0..idle / CLIENTS).map(connect).collect::<Vec<_>>()
    };
    // One after the other they take a busy machine a minute.
    let connections: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(open)).collect();
        let opened = clients.into_iter().map(|client| client.join());
        opened.flat_map(|all| all.expect("it ends")).collect()
    });
    let idle = connections.len() as u64;
    wait_until("all are taken", || open_files(&process) >= before + idle);
    assert_serves(&process, "9876553001");
    drop(connections);
    assert_serves(&process, "9876553002");
}

#[test]
fn connections_beyond_the_limit_are_closed_and_the_others_served() {
    let world = World::with(Setup::default().set("HTTP__CONNECTIONS", "2"));
    let process = world.start("a");
    let mut first = Client::connect(&process);
    let mut second = Client::connect(&process);
    for client in [&mut first, &mut second] {
        assert_eq!(client.send(&Request::register("9876554001")).status, 201);
    }
    assert!(Client::connect(&process).is_closed());
    assert_eq!(first.send(&Request::register("9876554002")).status, 201);
}

#[test]
fn a_client_that_never_reads_does_not_hold_up_the_end() {
    let world = World::with(
        Setup::default()
            .set("HTTP__BODY_TIMEOUT", "1s")
            .set("HTTP__BUDGET", "1s")
            .set("HTTP__CONFIRM_TIMEOUT", "1s")
            // The end does not wait for this.
            .set("HTTP__IDLE_TIMEOUT", "10m"),
    );
    let mut process = world.start("a");
    let mut deaf = Client::connect(&process);
    let many = format!("GET /user-otp/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x").repeat(100);
    deaf.give_up_writing_after(Duration::from_secs(2));
    // Until its answers fill every buffer on the way, and the process stops reading.
    while deaf.write(&many).is_ok() {}
    assert_serves(&process, "9876555001");
    assert!(process.terminate().success(), "everything else is in order");
}
