//! Models by name, from a server on this machine.

use super::support::{foreign, refusal};
use rwkv_core::checkpoint::hub::Hub;
use rwkv_core::checkpoint::{Checkpoint, Progress};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Speaks as much of the hub's protocol as a download needs, and remembers what it was asked for.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves one repository, `owner/model`, with these files.
    fn start(files: Vec<(&'static str, PathBuf)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&stream.expect("a connection"), &files, &log);
            }
        });
        Self { address, asked }
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("the log"))
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: &TcpStream, files: &[(&str, PathBuf)], log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = lines
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    log.lock().expect("the log").push(path.clone());
    let file = |revision: &str| {
        let name = path.strip_prefix(&format!("/owner/model/resolve/{revision}/"))?;
        files.iter().find(|(file, _)| *file == name)
    };
    let (status, headers, body) = if path == "/api/models/owner/model/revision/main" {
        let names = files.iter().map(|(name, _)| format!("{{\"rfilename\":\"{name}\"}}")).collect::<Vec<_>>().join(",");
        ("200 OK", String::new(), format!("{{\"siblings\":[{names}],\"sha\":\"abc\"}}").into_bytes())
    } else if let Some((name, file)) = file("main").or_else(|| file("v2")) {
        let whole = std::fs::read(file).expect("the fixture");
        let (start, end) = range.as_deref().and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
        let start: usize = start.parse().expect("a number");
        let end = end.parse().map_or(whole.len(), |end: usize| end + 1);
        let headers = format!(
            "etag: \"{name}-tag\"\r\nx-repo-commit: abc\r\ncontent-range: bytes {start}-{}/{}\r\n",
            end - 1,
            whole.len()
        );
        ("206 Partial Content", headers, whole[start..end].to_vec())
    } else {
        ("404 Not Found", String::new(), b"{}".to_vec())
    };
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // A client that has heard enough may be gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn fetch(hub: &Hub, model: &str) -> Result<PathBuf, String> {
    hub.fetch(model, &mut |_| ()).map_err(|error| error.to_string())
}

#[test]
fn a_repository_with_one_pth_file_is_downloaded_once() {
    let cache = tempfile::tempdir().expect("a folder");
    let server = Server::start(vec![("README.md", foreign("bf16.pth")), ("model.pth", foreign("bf16.pth"))]);
    let hub = Hub::new(&server.address, cache.path());
    let mut heard: Vec<(String, u64, u64)> = Vec::new();
    let path = hub
        .fetch("owner/model", &mut |Progress { file, done, total }| heard.push((file.to_owned(), done, total)))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(std::fs::read(&path).expect("a file"), std::fs::read(foreign("bf16.pth")).expect("the fixture"));
    let (file, done, total) = heard.last().expect("progress");
    assert_eq!((file.as_str(), done), ("model.pth", total));
    assert_eq!(*total, std::fs::metadata(foreign("bf16.pth")).expect("the fixture").len());
    assert!(path.starts_with(cache.path()));
    server.asked();

    assert_eq!(fetch(&hub, "owner/model"), Ok(path.clone()));
    let asked = server.asked();
    assert!(asked.iter().all(|path| path.starts_with("/api/")), "only the list is asked for again: {asked:?}");
    assert_eq!(fetch(&hub, "owner/model:model.pth"), Ok(path));
    assert_eq!(server.asked(), Vec::<String>::new(), "a file by its name needs no connection");
}

#[test]
fn shards_come_with_their_index_and_the_tokenizer_with_them() {
    let cache = tempfile::tempdir().expect("a folder");
    let shards = foreign("hugging_face_shards");
    let server = Server::start(
        ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
            .into_iter()
            .map(|name| (name, shards.join(name)))
            .chain([("tokenizer.json", foreign("hugging_face/config.json"))])
            .collect(),
    );
    let hub = Hub::new(&server.address, cache.path());
    let path = fetch(&hub, "owner/model").expect("downloads");
    assert_eq!(Checkpoint::open(&path).expect("opens").config().dim_att, 12);
    assert!(path.with_file_name("tokenizer.json").exists());
    server.asked();
    assert_eq!(fetch(&hub, "owner/model"), Ok(path));
    assert_eq!(server.asked(), Vec::<String>::new(), "everything is in the cache");
}

#[test]
fn a_revision_and_a_file_can_be_chosen() {
    let cache = tempfile::tempdir().expect("a folder");
    let server = Server::start(vec![("old.pth", foreign("f16.pth")), ("new.pth", foreign("bf16.pth"))]);
    let hub = Hub::new(&server.address, cache.path());
    let said = fetch(&hub, "owner/model").expect_err("two models");
    assert!(said.contains("hf:owner/model") && said.contains("old.pth, new.pth"), "{said}");
    let path = fetch(&hub, "owner/model@v2:old.pth").expect("downloads");
    assert!(server.asked().iter().any(|asked| asked == "/owner/model/resolve/v2/old.pth"));
    assert!(Checkpoint::open(&path).is_ok());
}

#[test]
fn what_cannot_be_had_is_one_sentence() {
    let cache = tempfile::tempdir().expect("a folder");
    let server = Server::start(vec![("README.md", foreign("bf16.pth"))]);
    let hub = Hub::new(&server.address, cache.path());
    for (model, words) in [
        ("owner/other", "no such model"),
        ("owner/model", "no .pth file"),
        ("owner/model:absent.pth", "absent.pth"),
        ("no-slash", "hf:OWNER/NAME"),
        ("owner/model:../../secret", "hf:OWNER/NAME"),
    ] {
        let said = fetch(&hub, model).expect_err("refused");
        assert!(said.contains(words) && said.contains(&server.address) && !said.contains('\n'), "{said}");
    }
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let said = fetch(&Hub::new(format!("http://{port}"), cache.path()), "owner/model").expect_err("no connection");
    assert!(said.contains("cannot get hf:owner/model") && !said.contains('\n'), "{said}");
}

#[test]
fn a_path_is_a_path() {
    assert_eq!(rwkv_core::checkpoint::resolve(Path::new("runs/mine")).expect("itself"), Path::new("runs/mine"));
    assert!(refusal(Path::new("no/such/hf:thing")).contains("no/such"));
}
