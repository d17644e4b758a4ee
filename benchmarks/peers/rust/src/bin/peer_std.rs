//! The peers' cases by std::process.

use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};

use peers::{count_lines, serve, threads, Programs, LINES_OF_A_PIPELINE, SIZE_OF_A_LINE};

fn capture(program: &str) {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
}

fn pipeline(feed: &str) {
    let count = LINES_OF_A_PIPELINE.to_string();
    let mut first = Command::new(feed).args(["lines", &count]).stdout(Stdio::piped()).spawn().unwrap();
    let mut second =
        Command::new(feed).arg("copy").stdin(first.stdout.take().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let mut third =
        Command::new(feed).arg("copy").stdin(second.stdout.take().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = Vec::new();
    third.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), LINES_OF_A_PIPELINE * SIZE_OF_A_LINE);
    assert!([first, second, third].iter_mut().all(|child| child.wait().unwrap().success()));
}

fn main() {
    let mut held: Vec<Child> = Vec::new();
    serve(|Programs { exit, feed }, case, count| {
        match case {
            "spawn" => (0..count).for_each(|_| assert!(Command::new(exit).status().unwrap().success())),
            "capture" => (0..count).for_each(|_| capture(exit)),
            "many" => threads(count, || capture(exit)),
            "big" => {
                let output = Command::new(feed).args(["bytes", &count.to_string()]).output().unwrap();
                assert!(output.status.success() && output.stdout.len() == count);
            }
            "lines" => {
                let mut child =
                    Command::new(feed).args(["lines", &count.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
                assert_eq!(count_lines(BufReader::new(child.stdout.take().unwrap())), count);
                assert!(child.wait().unwrap().success());
            }
            "pipeline" => (0..count).for_each(|_| pipeline(feed)),
            "hold" => held.extend((0..count).map(|_| {
                Command::new(feed).arg("pause").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })),
            "drop" => held.drain(..).for_each(|mut child| {
                child.kill().unwrap();
                child.wait().unwrap();
            }),
            _ => return false,
        }
        true
    });
}
