//! What TLS costs a gate: new connections with one request each, every one with a whole handshake, and connections that rest.
//! The client checks no certificate: its core shall not be what limits the gate.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::answer;
use super::gates::{Gate, Kind, Place};
use super::load::whole_request;
use super::measure::{Amount, Series, Table, cpu, order, ratio};

/// Clients that connect anew for each request.
const CLIENTS: usize = 8;
const NAME: &str = "gate.example";

/// A certificate for all gates alike: ECDSA over P-256, signed by itself.
#[derive(Debug)]
pub(crate) struct Certificate {
    folder: TempDir,
}

impl Certificate {
    pub(crate) fn make() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("herdgate-bench-").tempdir()?;
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let certificate = Self { folder };
        fs::write(certificate.chain(), made.cert.pem())?;
        fs::write(certificate.key(), made.signing_key.serialize_pem())?;
        Ok(certificate)
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.path("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}

/// Measures the gates that speak TLS here; the others have no figures.
pub(crate) async fn measure(kinds: &[Kind], place: &Place, amount: Amount) -> Result<Vec<Series>> {
    let place = Place { certificate: Some(Rc::new(Certificate::make()?)), ..place.clone() };
    let clients = Clients::new()?;
    let rows = [
        ("CPU per new TLS connection with a request".to_owned(), "µs"),
        ("new TLS connections with a request".to_owned(), "/s"),
        (format!("per idle TLS connection, {}", amount.idle), "KiB"),
    ];
    let mut table = Table::new(kinds.len(), &rows);
    let mut gates = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        if matches!(kind, Kind::Nginx | Kind::Herdgate) {
            gates.push((number, started(*kind, &place, &clients).await?));
        }
    }
    for round in 0..amount.pairs {
        for place in order(gates.len(), round) {
            let (number, gate) = &gates[place];
            let (before, begin) = (gate.run_time()?, Instant::now());
            let count = clients.connect_for(gate.address, amount.slice).await?;
            let (used, time) = (gate.run_time()? - before, begin.elapsed());
            let rate = ratio(count, 1) / time.as_secs_f64();
            table.add(*number, &[cpu(gate, used, count), Some(rate), None]);
        }
    }
    for (number, gate) in gates {
        drop(gate);
        let gate = started(kinds[number], &place, &clients).await?;
        let idle = clients.idle(&gate, amount.idle).await.with_context(|| gate.kind.name())?;
        table.add(number, &[None, None, Some(idle)]);
    }
    Ok(table.series)
}

async fn started(kind: Kind, place: &Place, clients: &Clients) -> Result<Gate> {
    let gate = Gate::begin(kind, place, super::gates::ROOMY)?;
    gate.listens().await?;
    // herdgate listens before it knows what its upstream has.
    let begun = Instant::now();
    while let Err(error) = clients.once(gate.address).await {
        ensure!(begun.elapsed() < Duration::from_secs(15), error.context(kind.name()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(gate)
}

struct Clients {
    connector: TlsConnector,
    request: Rc<Vec<u8>>,
}

impl Clients {
    fn new() -> Result<Self> {
        // What both gates have: neither shall pay for a stronger exchange than the other one.
        let kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), request: Rc::new(whole_request(100)) })
    }

    /// One connection with one request.
    async fn once(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut stream = self.connector.connect(ServerName::try_from(NAME)?, stream).await?;
        stream.write_all(&self.request).await?;
        let mut scratch = Vec::new();
        let status = answer::read_whole(&mut stream, &mut scratch).await?;
        ensure!(status == 200, "answered {status}");
        Ok(stream)
    }

    /// How many connections came about within the time.
    async fn connect_for(&self, address: SocketAddr, time: Duration) -> Result<u64> {
        let begin = Instant::now();
        let mut connecting = JoinSet::new();
        for _ in 0..CLIENTS {
            let one = Self { connector: self.connector.clone(), request: Rc::clone(&self.request) };
            connecting.spawn_local(async move {
                let mut count = 0;
                while begin.elapsed() < time {
                    // Ended without a farewell: what it costs to read one is not in question.
                    drop(one.once(address).await?);
                    count += 1;
                }
                anyhow::Ok(count)
            });
        }
        let mut count = 0;
        while let Some(ended) = connecting.join_next().await {
            count += ended??;
        }
        Ok(count)
    }

    /// KiB per connection that has had one answer and now waits.
    async fn idle(&self, gate: &Gate, count: usize) -> Result<f64> {
        let mut open = Vec::new();
        // A few first, so that what is made once is not counted.
        for _ in 0..32 {
            open.push(self.once(gate.address).await?);
        }
        let before = gate.resident()?;
        for _ in 0..count {
            open.push(self.once(gate.address).await?);
        }
        let grown = gate.resident()?.saturating_sub(before);
        Ok(ratio(grown, 1024) / ratio(count as u64, 1))
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _by: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _by: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
