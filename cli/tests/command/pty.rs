use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;

use crate::running::{eventually, state_of};
use crate::sandbox::Sandbox;

/// An interactive shell at a terminal of its own, with job control, to which a test sends keys.
#[derive(Debug)]
pub(crate) struct Shell {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    child: Child,
    prompts: u32,
}

impl Shell {
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        let terminal = openpty(None, None).expect("a terminal");
        let mut setsid = sandbox.program("setsid");
        setsid.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]);
        setsid.env("DB_MUTEX", env!("CARGO_BIN_EXE_db-mutex")).env("PS1", "").env("TERM", "dumb");
        // At each prompt the shell says how the line before has ended, and which prompt it is.
        setsid.env("PROMPT_COMMAND", r#"printf '<%s|%s>\n' "$?" "$((++PROMPTS))""#);
        Self::with(setsid, terminal.master, &terminal.slave)
    }

    fn with(mut command: Command, master: OwnedFd, slave: &OwnedFd) -> Self {
        let end = || Stdio::from(slave.try_clone().expect("a terminal"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid");
        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, written) = (keyboard.try_clone().expect("a terminal"), Arc::clone(&screen));
        thread::spawn(move || {
            let mut part = [0; 4096];
            // At its end there is an error, not an end of file.
            while let Ok(length @ 1..) = output.read(&mut part) {
                written.lock().expect("a screen").push_str(&String::from_utf8_lossy(&part[..length]));
            }
        });
        let mut shell = Self { keyboard, screen, child, prompts: 1 };
        shell.run("stty -echo; set -m; bind 'set enable-bracketed-paste off' 2> /dev/null");
        shell
    }

    /// Presses keys.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a keyboard");
    }

    pub(crate) fn screen(&self) -> String {
        self.screen.lock().expect("a screen").clone()
    }

    /// Waits until a text is on the screen.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        eventually(&format!("{text:?} is on the screen:\n{}", self.screen()), || {
            Some(self.screen()).filter(|screen| screen.contains(text))
        })
    }

    /// Runs a line until the shell prompts again, and returns what `$?` is then.
    pub(crate) fn run(&mut self, line: &str) -> i32 {
        let number = self.send(line);
        self.code(number)
    }

    /// Starts a line; its number is for [`code`](Self::code).
    pub(crate) fn send(&mut self, line: &str) -> u32 {
        self.prompts += 1;
        self.keys(&format!("{line}\n"));
        self.prompts
    }

    /// Lets the last job that was stopped go on in the foreground, and presses keys that `reader` of it reads. Returns the number
    /// for [`code`](Self::code).
    pub(crate) fn go_on_with(&mut self, reader: i32, keys: &str) -> u32 {
        let number = self.send("fg");
        eventually("it goes on", || (state_of(reader) != Some('T')).then_some(()));
        // Of a job that has ended before it waits for it, bash knows no exit code.
        thread::sleep(Duration::from_millis(300));
        self.keys(keys);
        number
    }

    /// Waits until the shell prompts after that line, which has ended or was stopped, and returns what `$?` is.
    pub(crate) fn code(&self, number: u32) -> i32 {
        let end = format!("|{number}>");
        let screen = self.wait_for(&end);
        let before = &screen[..screen.find(&end).expect("just seen")];
        before.rsplit('<').next().and_then(|code| code.parse().ok()).expect("an exit code")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
