//! Many captured children by tokio: a round for each line on stdin, its nanoseconds on stdout.
//!
//!     tokio PROGRAM COUNT AT_ONCE [current]

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

async fn round(program: Arc<String>, count: usize, at_once: usize) {
    let places = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let place = places.clone().acquire_owned().await.unwrap();
        let program = program.clone();
        tasks.spawn(async move {
            let output = Command::new(&*program).output().await.unwrap();
            assert!(output.status.success() && output.stdout.is_empty());
            drop(place);
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let program = Arc::new(args[1].clone());
    let (count, at_once) = (args[2].parse().unwrap(), args[3].parse().unwrap());
    let mut builder = match args.get(4).map(String::as_str) {
        Some("current") => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build().unwrap();
    for line in io::stdin().lock().lines() {
        line.unwrap();
        let begin = Instant::now();
        runtime.block_on(runtime.spawn(round(program.clone(), count, at_once))).unwrap();
        println!("{}", begin.elapsed().as_nanos());
        io::stdout().flush().unwrap();
    }
}
