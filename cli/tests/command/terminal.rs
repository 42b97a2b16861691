use std::io::Write;

use crate::sandbox::Sandbox;

/// The command's process group is handed the terminal, else to read from it would stop it; and the shell's has it back
/// afterwards.
#[test]
fn the_command_reads_from_the_terminal_and_so_does_what_follows() {
    let sandbox = Sandbox::new();
    sandbox.write("read.sh", "read line; echo got:$line > first\n");
    sandbox.write(
        "session.sh",
        "\"$DB_MUTEX\" run job -- sh read.sh; echo code:$? > code; read line; echo got:$line > second\n",
    );
    let mut script = sandbox.program("script");
    script.args(["--quiet", "--return", "--command", "sh session.sh", "/dev/null"]);
    script.env("DB_MUTEX", env!("CARGO_BIN_EXE_db-mutex")).env("SHELL", "/bin/sh");
    let (keys, mut keyboard) = std::io::pipe().unwrap();
    script.stdin(keys);
    let session = sandbox.spawn(script);
    keyboard.write_all(b"one\n").unwrap();
    sandbox.wait_for_line("first");
    keyboard.write_all(b"two\n").unwrap();
    let ended = session.wait();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(
        [sandbox.read("first"), sandbox.read("code"), sandbox.read("second")],
        ["got:one\n", "code:0\n", "got:two\n"]
    );
}
