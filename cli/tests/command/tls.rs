use db_mutex_test_servers::{folder, url};

use crate::sandbox::Sandbox;

/// Both servers, at the host that their certificates are for, with a full verification and no file of authorities.
#[test]
fn certificates_are_verified_against_the_authorities_of_the_system() {
    let sandbox = Sandbox::new();
    for (server, parameter) in [("postgres-tls", "sslmode=verify-full"), ("mariadb", "ssl-mode=verify_identity")] {
        let url = url(server).replace("127.0.0.1", "localhost");
        let (place, _) = url.split_once('?').unwrap_or((&url, ""));
        let url = format!("{place}?{parameter}");
        let run_with = |authorities: &str| {
            let mut command = sandbox.command(["--url", &url, "--table", "cli_tls", "run", server, "--", "true"]);
            // Where the system's authorities are, for all who look for them as OpenSSL does.
            command.env("SSL_CERT_FILE", folder(server).join(authorities));
            sandbox.spawn(command).wait()
        };
        run_with("ca.pem").assert_silent_success();
        let refused = run_with("other-ca.pem");
        assert!(refused.assert_refusal(125).contains("certificate"), "{refused:?}");
    }
}
