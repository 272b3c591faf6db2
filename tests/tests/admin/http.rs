//! Requests made by hand, so that every header is what the test says. HTTP/1.0 has no chunks and ends with
//! its connection.

use crate::server::Server;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// More than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The header's value. Names are in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Server {
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.send(method, path, headers, body);
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer in UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let status = head[9..12].parse().expect("a status");
        Answer { status, head: head.into(), body: body.into() }
    }

    /// Watch the events; the first is the snapshot.
    pub(crate) fn watch(&self) -> Watch {
        let mut lines = BufReader::new(self.send("GET", "/events", &[], ""));
        let mut status = String::new();
        lines.read_line(&mut status).expect("a status");
        assert!(status.contains("200"), "{status}");
        Watch(lines)
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it has one");
        let mut text = format!("{method} {path} HTTP/1.0\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            text += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("it reads");
        stream
    }
}

/// A stream of events.
pub(crate) struct Watch(BufReader<TcpStream>);

impl Watch {
    /// The next event. Its name is the one its data says.
    pub(crate) fn next(&mut self) -> Value {
        let mut name = String::new();
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "no event but heartbeats");
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).expect("an event in time"), 0, "the stream has ended");
            if let Some(text) = line.strip_prefix("event: ") {
                name = text.trim_end().into();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(data).expect("data is JSON");
                assert_eq!(event["event"], name.as_str());
                return event;
            }
        }
    }

    /// The next event for which `wanted` says yes.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next();
            if wanted(&event) {
                return event;
            }
        }
    }

    /// The next event of that name about that thread.
    pub(crate) fn next_of(&mut self, name: &str, thread_id: &str) -> Value {
        self.until(|event| event["event"] == name && event["thread_id"] == thread_id)
    }
}
