//! An ACME authority (pebble) with a DNS of its own (pebble-challtestsrv), on a loopback address that nobody else uses.

use super::{Ask, Home, PATIENCE, Running, leave_out, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

/// Where the authority looks for a name's gate, and where it listens itself; on an address of this process alone.
const DIRECTORY: u16 = 14_000;
const MANAGEMENT: u16 = 15_000;
const DNS: u16 = 8_053;
const DNS_MANAGEMENT: u16 = 8_055;
const GATE: u16 = 5_001;

/// An authority's files, and its programs once they run.
pub(crate) struct Pebble {
    ip: IpAddr,
    ca: PathBuf,
    config: PathBuf,
    running: Option<Running>,
    names: Running,
}

/// The addresses of one authority: each test has its own `number`.
fn address(number: u8) -> IpAddr {
    let pid = std::process::id();
    let [_, high, middle, low] = (pid << 2).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 64 | (high & 63), middle, (low & 0xfc) | (number & 3)))
}

/// Whether the programs are installed; says what is missing.
pub(crate) fn is_installed() -> bool {
    let is_there = |name: &str| Command::new(name).arg("-h").output().is_ok();
    let all = is_there("pebble") && is_there("pebble-challtestsrv");
    if !all {
        leave_out("pebble is not installed (Debian package pebble)");
    }
    all
}

impl Pebble {
    /// Writes what it needs into `home`; certificates will last for so many seconds. Only the DNS runs yet: every name
    /// leads to the gate.
    pub(crate) fn prepare(home: &Home, number: u8, lasting: u32) -> Self {
        let ip = address(number);
        let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
        // Two certificates of one name would look like one that is its own issuer's.
        authority.distinguished_name.push(DnType::CommonName, "the authority's own");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new([ip.to_string()]).unwrap().signed_by(&key, &authority).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(home.path(name), text).unwrap();
            home.path(name)
        };
        let config = json!({ "pebble": {
            "listenAddress": format!("{ip}:{DIRECTORY}"),
            "managementListenAddress": format!("{ip}:{MANAGEMENT}"),
            "certificate": write("pebble.pem", &own.pem()),
            "privateKey": write("pebble-key.pem", &key.serialize_pem()),
            "httpPort": 5_002,
            "tlsPort": GATE,
            "certificateValidityPeriod": lasting,
        }});
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-defaultIPv4", &ip.to_string(), "-dns01", &format!("{ip}:{DNS}")]);
        names.args(["-management", &format!("{ip}:{DNS_MANAGEMENT}")]);
        let pebble = Pebble {
            ip,
            ca: write("pebble-ca.pem", &authority.pem()),
            config: write("pebble.json", &config.to_string()),
            running: None,
            names: Running::start(&mut names),
        };
        pebble.wait_for(DNS_MANAGEMENT, &pebble.names);
        pebble
    }

    /// Starts it with these variables.
    pub(crate) fn start(&mut self, env: &[(&str, &str)]) {
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&self.config).arg("-dnsserver").arg(format!("{}:{DNS}", self.ip));
        command.env_clear().envs(env.iter().copied());
        let running = Running::start(&mut command);
        self.wait_for(DIRECTORY, &running);
        self.running = Some(running);
    }

    /// Ends it. What it knew is gone.
    pub(crate) fn end(&mut self) {
        self.running = None;
    }

    fn wait_for(&self, port: u16, running: &Running) {
        let address = SocketAddr::new(self.ip, port);
        until(&format!("{address} to listen: {}", running.err()), || {
            TcpStream::connect_timeout(&address, PATIENCE).ok()
        });
    }

    /// What it has said.
    pub(crate) fn said(&self) -> String {
        self.running.as_ref().map(Running::out).unwrap_or_default()
    }

    /// Leads a name to an address where nobody listens.
    pub(crate) fn mislead(&self, name: &str) {
        let record = json!({ "host": format!("{name}."), "addresses": ["127.63.255.254"] });
        let told = Ask::post("/add-a", &record).send(SocketAddr::new(self.ip, DNS_MANAGEMENT));
        assert_eq!(told.status, 200);
    }

    /// Where the gate must listen.
    pub(crate) fn gate(&self) -> SocketAddr {
        SocketAddr::new(self.ip, GATE)
    }

    /// Settings that ask it for these names.
    pub(crate) fn settings(&self, domain: &str) -> String {
        let (ip, ca) = (self.ip, self.ca.display());
        format!(
            "[tls]\ndomain = {domain}\n[tls.acme]\ndirectory = \"https://{ip}:{DIRECTORY}/dir\"\nca = \"{ca}\"\n\
             email = \"you@example.com\"\n"
        )
    }

    /// The root of the certificates that it gives, in PEM.
    pub(crate) fn root(&self) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--noproxy", "*", "-sS", "-m", "30", "--cacert"]).arg(&self.ca);
        let told = curl.arg(format!("https://{}:{MANAGEMENT}/roots/0", self.ip)).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).unwrap()
    }
}
