//! Other people's servers, in front of the gate or between it and its upstreams.

use super::{Home, Running, leave_out, until};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

/// The program, where it is installed; told where it is not. Not everybody has all of these folders on their PATH.
#[track_caller]
pub(crate) fn find(program: &str) -> Option<String> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found =
        folders.iter().map(|folder| format!("{folder}/{program}")).find(|file| Path::new(file).is_file());
    if found.is_none() {
        leave_out(&format!("{program} is not installed"));
    }
    found
}

/// Starts nginx with these server blocks, in one process. `command` runs it.
pub(crate) fn nginx(home: &Home, mut command: Command, servers: &str) -> Running {
    let dir = tempfile::tempdir_in(home.path("")).unwrap().keep();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
        .collect();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temp}{servers}\n}}\n",
        dir.display()
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    Running::start(command.arg("-p").arg(&dir).arg("-e").arg("stderr").arg("-c").arg(file))
}

/// An nginx in front of something: as others guard their Ollama. Ended when it is dropped.
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
        let program = find("nginx")?;
        // Nobody else binds what the system just chose, for as long as it has others to choose.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let tls = if is_tls { " ssl" } else { "" };
        let server = format!(
            "server {{ listen {address}{tls};\n{lines}\n\
             location / {{ proxy_pass {to}; proxy_http_version 1.1; proxy_buffering off; }} }}"
        );
        let running = nginx(home, Command::new(program), &server);
        listens(address);
        Some(Self { address, _running: running })
    }

    /// What settings call it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Starts Caddy with these sites.
pub(crate) fn caddy(home: &Home, command: Command, sites: &str) -> Running {
    caddy_with(home, command, "\tadmin off\n\tauto_https off\n", sites)
}

/// The same with options of its own.
pub(crate) fn caddy_with(home: &Home, mut command: Command, options: &str, sites: &str) -> Running {
    let file = home.path("Caddyfile");
    std::fs::write(&file, format!("{{\n{options}}}\n{sites}\n")).unwrap();
    command.env("HOME", home.path("")).env("XDG_DATA_HOME", home.path("caddy-data"));
    command.env("XDG_CONFIG_HOME", home.path("caddy-config"));
    Running::start(command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file))
}

/// Starts HAProxy, which passes connections on as they are.
pub(crate) fn haproxy(home: &Home, mut command: Command, listeners: &str) -> Running {
    let file = home.path("haproxy.cfg");
    let defaults = "defaults\n\tmode tcp\n\ttimeout connect 5s\n\ttimeout client 30s\n\ttimeout server 30s\n";
    std::fs::write(&file, format!("{defaults}{listeners}\n")).unwrap();
    Running::start(command.arg("-f").arg(file))
}

/// Waits until somebody listens there.
#[track_caller]
pub(crate) fn listens(address: SocketAddr) {
    until(&format!("somebody to listen at {address}"), || TcpStream::connect(address).ok());
}
