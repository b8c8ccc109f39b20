//! A real nginx in front of something: as others guard their Ollama.

use super::{Home, Running, leave_out, until};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

/// A running nginx. Ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    _running: Running,
}

impl Nginx {
    /// One that passes everything on to `to` (`http://…`), with these lines in its server; its files are in `home`. None
    /// where there is no nginx.
    #[track_caller]
    pub(crate) fn before(home: &Home, to: &str, is_tls: bool, lines: &str) -> Option<Self> {
        let Some(program) =
            ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|at| Path::new(at).exists())
        else {
            leave_out("there is no nginx");
            return None;
        };
        // Nobody else binds what the system just chose, for as long as it has others to choose.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let dir = home.path(&format!("nginx-{}", address.port()));
        std::fs::create_dir(&dir).unwrap();
        let at = dir.display();
        let tls = if is_tls { " ssl" } else { "" };
        // Who is not root is not asked for another user.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
            .join(" ");
        let text = format!(
            "daemon off; {user} worker_processes 1; pid {at}/pid; error_log stderr;\n\
             events {{}}\nhttp {{ access_log off; {temp}\n\
             server {{ listen {address}{tls};\n{lines}\n\
             location / {{ proxy_pass {to}; proxy_http_version 1.1; proxy_buffering off; }} }} }}\n"
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-c"]).arg(&file).arg("-p").arg(&dir);
        let running = Running::start(&mut command);
        until("nginx to listen", || TcpStream::connect(address).ok());
        Some(Self { address, _running: running })
    }

    /// What settings call it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
