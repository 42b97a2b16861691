use std::path::Path;
use std::process::Command;

use crate::sandbox::Sandbox;

/// What `scripts/databases` prints about a server.
fn databases(what: &str, server: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/databases");
    let output = Command::new(script).args([what, server]).output().expect("the script can be started");
    assert!(output.status.success(), "start the servers with: scripts/databases up postgres-tls mariadb");
    String::from_utf8(output.stdout).expect("a URL is text").trim().to_owned()
}

/// Both servers, at the host that their certificates are for, with a full verification and no file of authorities.
#[test]
fn certificates_are_verified_against_the_authorities_of_the_system() {
    let sandbox = Sandbox::new();
    for (server, parameter) in [("postgres-tls", "sslmode=verify-full"), ("mariadb", "ssl-mode=verify_identity")] {
        let url = databases("url", server).replace("127.0.0.1", "localhost");
        let (place, _) = url.split_once('?').unwrap_or((&url, ""));
        let url = format!("{place}?{parameter}");
        let run_with = |authorities: &str| {
            let mut command = sandbox.command(["--url", &url, "--table", "cli_tls", "run", server, "--", "true"]);
            // Where the system's authorities are, for all who look for them as OpenSSL does.
            command.env("SSL_CERT_FILE", format!("{}/{authorities}", databases("dir", server)));
            sandbox.spawn(command).wait()
        };
        run_with("ca.pem").assert_silent_success();
        let refused = run_with("other-ca.pem");
        assert!(refused.assert_refusal(125).contains("certificate"), "{refused:?}");
    }
}
