//! Starts workers, lets them begin together, and collects what they found.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::spec::{Failure, Sample, Spec};

pub(crate) struct Worker {
    child: Child,
    /// Until the worker may end.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// What no measurement needs, unless it hangs.
const LIMIT: Duration = Duration::from_secs(180);

impl Worker {
    /// `program` is this one, or a Python with its script.
    pub(crate) fn start(program: &[String], spec: &Spec) -> Result<Self, Failure> {
        let mut child =
            Command::new(&program[0]).args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        writeln!(input, "{}", serde_json::to_string(spec)?)?;
        Ok(Self { child, input: Some(input), lines })
    }

    fn line(&self) -> Result<String, Failure> {
        let line = self.lines.recv_timeout(LIMIT).map_err(|_| "a worker ended early, or hangs")?;
        match line.strip_prefix("error ") {
            Some(error) => Err(error.into()),
            None => Ok(line),
        }
    }

    pub(crate) fn ready(&self) -> Result<(), Failure> {
        match self.line()?.as_str() {
            "ready" => Ok(()),
            line => Err(format!("a worker says {line:?}").into()),
        }
    }

    pub(crate) fn go(&mut self) -> Result<(), Failure> {
        let input = self.input.as_mut().ok_or("the worker was told to end")?;
        Ok(writeln!(input, "go")?)
    }

    pub(crate) fn sample(&self) -> Result<Sample, Failure> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Lets it end, and waits for that, so that its connections are closed.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.input = None;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
