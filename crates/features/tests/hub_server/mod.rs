//! A server that answers on this machine as the Hugging Face Hub does, as far as fetching and uploading a model needs it.

// Every test crate has its own copy of this module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod place;
mod upload;
mod xet;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub(crate) use place::{NEW, OLD, Place, fetch, hub, model};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What the server holds and how it behaves; may be changed while it runs.
#[derive(Default)]
pub(crate) struct Hub {
    /// Files by commit.
    pub(crate) commits: BTreeMap<String, Files>,
    /// Branches and tags.
    pub(crate) refs: BTreeMap<String, String>,
    /// The only token that opens the model; `None` opens it to everyone.
    pub(crate) token: Option<String>,
    /// What goes wrong when the contents of this file are asked for.
    pub(crate) broken: BTreeMap<String, Broken>,
    /// An answer to everything: status and body.
    pub(crate) everything: Option<(u16, String)>,
    /// Whether the model is private.
    pub(crate) private: bool,
    /// What is answered to requests whose path contains this.
    pub(crate) fails: BTreeMap<String, (u16, String)>,
    /// The messages of the commits that were uploaded.
    pub(crate) messages: Vec<String>,
    /// Contents of large files, uploaded but perhaps not committed.
    pub(crate) stored: xet::Storage,
    /// The requests that came.
    pub(crate) requests: Vec<Request>,
}

#[derive(Clone, Copy)]
pub(crate) enum Broken {
    /// The connection closes after half of the file.
    HalfOfIt,
    /// An error page with this status.
    ErrorPage(u16),
    /// The whole answer is shorter than announced elsewhere.
    Shorter,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

/// The running server; dropping it closes the port.
pub(crate) struct HubServer {
    pub(crate) endpoint: String,
    hub: Arc<Mutex<Hub>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The name of the one model that it holds.
pub(crate) const MODEL: &str = "org/tiny-bert";

impl HubServer {
    pub(crate) fn start(hub: Hub) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (hub, stop) = (Arc::new(Mutex::new(hub)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (hub, stop, endpoint) = (hub.clone(), stop.clone(), endpoint.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let (hub, endpoint) = (hub.clone(), endpoint.clone());
                    std::thread::spawn(move || stream.map(|stream| serve(stream, &hub, &endpoint)));
                }
            }
        });
        Self { endpoint, hub, stop, thread: Some(thread) }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Hub)) {
        change(&mut self.hub.lock().unwrap());
    }

    /// Takes the requests that came since the last time.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.hub.lock().unwrap().requests)
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// An address at which nothing listens.
pub(crate) fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn serve(mut stream: TcpStream, hub: &Mutex<Hub>, endpoint: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header == "\r\n" {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().unwrap(),
                "transfer-encoding" => panic!("bodies come with their length"),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = target.split('?').next().unwrap_or(target).replace("%2F", "/");
    let mut hub = hub.lock().unwrap();
    let method = method.to_owned();
    hub.requests.push(Request { method: method.clone(), path: path.clone(), authorization: authorization.clone() });
    let failure = hub.fails.iter().find(|(part, _)| path.contains(part.as_str())).map(|(_, failure)| failure.clone());
    let answer = match (failure, path.strip_prefix("/cas/")) {
        (Some((status, body)), _) => Answer::new(status, body),
        (None, Some(path)) => xet::answer(&mut hub.stored, &method, path, authorization.as_deref(), &body),
        (None, None) => answer(&mut hub, &method, &path, authorization.as_deref(), endpoint, &body),
    };
    drop(hub);

    let mut head =
        format!("HTTP/1.1 {} Answer\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.length);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if method != "HEAD" {
        stream.write_all(&answer.body)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Wait for the client to close, so that it never sees a reset before the answer.
    let _ = reader.read(&mut [0; 64]);
    Ok(())
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    length: usize,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), length: body.len(), body }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

fn answer(hub: &mut Hub, method: &str, path: &str, authorization: Option<&str>, endpoint: &str, body: &[u8]) -> Answer {
    if let Some((status, body)) = &hub.everything {
        return Answer::new(*status, body.clone()).with("Content-Type", "text/html");
    }
    // Signed addresses of stored files need no token.
    if let Some(rest) = path.strip_prefix("/storage/") {
        let (commit, file) = rest.split_once('/').unwrap_or_default();
        return contents(hub, commit, file);
    }
    if let Some(token) = &hub.token
        && authorization != Some(&format!("Bearer {token}"))
    {
        return Answer::new(401, r#"{"error":"Invalid username or password."}"#);
    }
    if let Some(answer) = upload::answer(hub, method, path, endpoint, body) {
        return answer;
    }
    let hub = &*hub;
    let not_found = |code: &str| Answer::new(404, "{}").with("X-Error-Code", code);
    let commit_of = |revision: &str| {
        let commit = hub.refs.get(revision).map_or(revision, String::as_str);
        hub.commits.get_key_value(commit)
    };
    if let Some(rest) = path.strip_prefix(&format!("/api/models/{MODEL}/")) {
        let (what, revision) = rest.split_once('/').unwrap_or_default();
        let Some((commit, files)) = commit_of(revision) else {
            return not_found("RevisionNotFound");
        };
        let body = match what {
            "revision" => format!(r#"{{"id":"{MODEL}","sha":"{commit}"}}"#),
            _ => {
                let folder = r#"{"type":"directory","oid":"d","path":"1_Pooling"}"#.to_owned();
                let file = |(path, body): (&String, &Vec<u8>)| {
                    format!(r#"{{"type":"file","oid":"f","size":{},"path":"{path}"}}"#, body.len())
                };
                let entries: Vec<String> = std::iter::once(folder).chain(files.iter().map(file)).collect();
                format!("[{}]", entries.join(","))
            }
        };
        return Answer::new(200, body).with("Content-Type", "application/json");
    }
    let Some(rest) = path.strip_prefix(&format!("/{MODEL}/resolve/")) else {
        return not_found("RepoNotFound");
    };
    let Some((commit, files, file)) = rest.match_indices('/').find_map(|(at, _)| {
        let (commit, files) = commit_of(&rest[..at])?;
        Some((commit, files, &rest[at + 1..]))
    }) else {
        return not_found("RevisionNotFound");
    };
    let Some(body) = files.get(file) else {
        return not_found("EntryNotFound").with("X-Repo-Commit", commit);
    };
    let etag = format!("\"{}-{}\"", &commit[..8], file.replace('/', "-"));
    let stored = file.ends_with(".safetensors");
    match (stored, method) {
        (true, _) => Answer::new(302, "")
            .with("Location", format!("{endpoint}/storage/{commit}/{file}"))
            .with("X-Repo-Commit", commit)
            .with("X-Linked-Etag", etag)
            .with("X-Linked-Size", body.len()),
        (false, "HEAD") => {
            let mut answer = Answer::new(200, "").with("X-Repo-Commit", commit).with("ETag", etag);
            answer.length = body.len();
            answer
        }
        (false, _) => contents(hub, commit, file),
    }
}

fn contents(hub: &Hub, commit: &str, file: &str) -> Answer {
    let body = hub.commits[commit][file].clone();
    match hub.broken.get(file) {
        None => Answer::new(200, body),
        Some(Broken::HalfOfIt) => {
            let mut answer = Answer::new(200, &body[..body.len() / 2]);
            answer.length = body.len();
            answer
        }
        Some(Broken::ErrorPage(status)) => Answer::new(*status, "<html>sorry</html>"),
        Some(Broken::Shorter) => Answer::new(200, &body[..body.len() - 1]),
    }
}
