//! The peers' cases by tokio: `peer_tokio EXIT FEED [current]`, on the runtime of one thread or of many.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use peers::{serve, Programs, AT_ONCE, LINES_OF_A_PIPELINE, SIZE_OF_A_LINE};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

async fn capture(program: &str) {
    let output = Command::new(program).output().await.unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
}

async fn many(program: String, count: usize) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let place = places.clone().acquire_owned().await.unwrap();
        let program = program.clone();
        tasks.spawn(async move {
            capture(&program).await;
            drop(place);
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn lines(feed: &str, count: usize) {
    let mut child = Command::new(feed).args(["lines", &count.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let (mut seen, mut line) = (0, Vec::new());
    while reader.read_until(b'\n', &mut line).await.unwrap() > 0 {
        assert_eq!(line.len(), SIZE_OF_A_LINE);
        line.clear();
        seen += 1;
    }
    assert_eq!(seen, count);
    assert!(child.wait().await.unwrap().success());
}

fn joined(before: &mut Child) -> Stdio {
    before.stdout.take().unwrap().try_into().unwrap()
}

async fn pipeline(feed: &str) {
    let count = LINES_OF_A_PIPELINE.to_string();
    let mut first = Command::new(feed).args(["lines", &count]).stdout(Stdio::piped()).spawn().unwrap();
    let mut second = Command::new(feed).arg("copy").stdin(joined(&mut first)).stdout(Stdio::piped()).spawn().unwrap();
    let mut third = Command::new(feed).arg("copy").stdin(joined(&mut second)).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = Vec::new();
    third.stdout.take().unwrap().read_to_end(&mut out).await.unwrap();
    assert_eq!(out.len(), LINES_OF_A_PIPELINE * SIZE_OF_A_LINE);
    for child in [&mut first, &mut second, &mut third] {
        assert!(child.wait().await.unwrap().success());
    }
}

async fn run(programs: Programs, held: Arc<Mutex<Vec<Child>>>, case: String, count: usize) -> bool {
    let Programs { exit, feed } = programs;
    match case.as_str() {
        "spawn" => {
            for _ in 0..count {
                assert!(Command::new(&exit).status().await.unwrap().success());
            }
        }
        "capture" => {
            for _ in 0..count {
                capture(&exit).await;
            }
        }
        "many" => many(exit, count).await,
        "big" => {
            let output = Command::new(feed).args(["bytes", &count.to_string()]).output().await.unwrap();
            assert!(output.status.success() && output.stdout.len() == count);
        }
        "lines" => lines(&feed, count).await,
        "pipeline" => {
            for _ in 0..count {
                pipeline(&feed).await;
            }
        }
        "hold" => {
            let start = || Command::new(&feed).arg("pause").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            held.lock().unwrap().extend((0..count).map(|_| start().unwrap()));
        }
        "drop" => {
            let all: Vec<Child> = held.lock().unwrap().drain(..).collect();
            for mut child in all {
                child.kill().await.unwrap();
            }
        }
        _ => return false,
    }
    true
}

fn main() {
    let mut builder = match std::env::args().nth(3).as_deref() {
        Some("current") => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build().unwrap();
    let held = Arc::new(Mutex::new(Vec::new()));
    serve(|programs, case, count| {
        let work = run(programs.clone(), held.clone(), case.to_string(), count);
        runtime.block_on(runtime.spawn(work)).unwrap()
    });
}
