//! Data of tasks from a server on this machine.

use rwkv_core::checkpoint::Progress;
use rwkv_eval::data::hub::DataHub;
use rwkv_eval::data::read_split;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const BRANCH: &str = "refs%2Fconvert%2Fparquet";

/// Speaks as much of the hub's protocol as a download needs, and remembers what it was asked for.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the converted branch of one data set, with these files.
    fn start(data_set: &'static str, files: Vec<(&'static str, PathBuf)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&stream.expect("a connection"), data_set, &files, &log);
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
fn answer(mut stream: &TcpStream, data_set: &str, files: &[(&str, PathBuf)], log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = lines
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    log.lock().expect("the log").push(path.clone());
    let name = path.strip_prefix(&format!("/datasets/{data_set}/resolve/{BRANCH}/"));
    let file = files.iter().find(|(file, _)| Some(*file) == name);
    let (status, headers, body) = if path == format!("/api/datasets/{data_set}/revision/{BRANCH}") {
        let names = files.iter().map(|(name, _)| format!("{{\"rfilename\":\"{name}\"}}")).collect::<Vec<_>>().join(",");
        ("200 OK", String::new(), format!("{{\"siblings\":[{names}],\"sha\":\"abc\"}}").into_bytes())
    } else if let Some((name, Ok(whole))) = file.map(|(name, file)| (name, std::fs::read(file))) {
        let (start, end) = range.as_deref().and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
        let start: usize = start.parse().expect("a number");
        let end = end.parse().map_or(whole.len(), |end: usize| end + 1);
        let tag = name.replace('/', "-");
        let headers = format!(
            "etag: \"{tag}\"\r\nx-repo-commit: abc\r\ncontent-range: bytes {start}-{}/{}\r\n",
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

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
}

fn piqa() -> Vec<(&'static str, PathBuf)> {
    vec![
        ("default/validation/0001.parquet", fixture("piqa/validation/0001.parquet")),
        ("default/validation/0000.parquet", fixture("piqa/validation/0000.parquet")),
        ("default/train/0000.parquet", fixture("piqa/validation/0000.parquet")),
        ("other/test/0000.parquet", fixture("piqa/validation/0000.parquet")),
    ]
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).map(|entries| {
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    });
    let mut names: Vec<String> = entries.unwrap_or_default();
    names.sort();
    names
}

#[test]
fn a_split_is_fetched_once_and_read() {
    let (cache, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let server = Server::start("baber/piqa", piqa());
    let hub = DataHub::new(&server.address, cache.path());
    let mut heard: Vec<(String, u64, u64)> = Vec::new();
    let mut hear = |Progress { file, done, total }: Progress<'_>| heard.push((file.to_owned(), done, total));
    assert!(hub.fetch(dir.path(), "piqa", "validation", &mut hear).unwrap_or_else(|error| panic!("{error}")));
    let (file, done, total) = heard.last().expect("progress");
    assert_eq!((file.as_str(), done), ("default/validation/0001.parquet", total));
    let expected = ["validation-00000-of-00002.parquet", "validation-00001-of-00002.parquet"];
    assert_eq!(names(&dir.path().join("piqa")), expected);
    let rows = read_split(dir.path(), "piqa", "validation").expect("rows");
    assert_eq!((rows.len(), rows[6].text("goal").expect("a text")), (7, "Goal 6"));
    server.asked();
    assert!(!hub.fetch(dir.path(), "piqa", "validation", &mut |_| ()).expect("there already"));
    assert_eq!(server.asked(), Vec::<String>::new(), "what is there needs no connection");
}

#[test]
fn what_cannot_be_had_says_what_to_do_by_hand() {
    let (cache, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let server = Server::start("baber/piqa", piqa());
    let hub = DataHub::new(&server.address, cache.path());
    let said = |hub: &DataHub, task: &str, split: &str| {
        let said = hub.fetch(dir.path(), task, split, &mut |_| ()).expect_err("refused").to_string();
        assert!(!said.contains('\n'), "{said}");
        said
    };
    let text = said(&hub, "piqa", "test");
    for part in ["default/test/0000.parquet", "splits train, validation", "by hand: open", "datasets/baber/piqa/tree/"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = said(&hub, "sciq", "test");
    assert!(text.contains("allenai/sciq") && text.contains("404") && text.contains("by hand"), "{text}");
    let text = said(&hub, "mine", "test");
    assert!(text.contains("mine") && text.contains("test.jsonl"), "{text}");
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let gone = DataHub::new(format!("http://{port}"), cache.path().join("other"));
    assert!(said(&gone, "piqa", "validation").contains("by hand"));
    assert_eq!(names(dir.path()), Vec::<String>::new(), "nothing is left behind");
}

#[test]
fn a_file_that_the_server_loses_leaves_no_split() {
    let (cache, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut files = piqa();
    files[0].1 = fixture("no/such.parquet");
    let server = Server::start("baber/piqa", files);
    let hub = DataHub::new(&server.address, cache.path());
    let said = hub.fetch(dir.path(), "piqa", "validation", &mut |_| ()).expect_err("lost").to_string();
    assert!(said.contains("default/validation/0001.parquet"), "{said}");
    assert_eq!(names(&dir.path().join("piqa")), Vec::<String>::new());
}
