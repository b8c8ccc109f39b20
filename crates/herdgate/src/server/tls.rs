//! The gate's certificate: read at the start, and read anew when its files change; made by an authority of its own
//! (`own_ca.rs`); or had from a public one (`acme.rs`). A pair that is broken or does not match is told once; the one before
//! stays in force, so that a renewal that went wrong ends no connection.

use super::acme::{self, Acme};
use super::callers::{Callers, Verifier};
use super::expiry;
use super::own_ca::OwnCa;
use super::own_made::Made;
use super::reload::{Looks, Stamp};
use super::with_hint;
use anyhow::{Context as _, anyhow, bail};
use arc_swap::ArcSwap;
use gate_proxy::{CertificateWatch, Handshakes, Life, Vouched};
use gate_store::DataDir;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// What the cores speak TLS with; another one from one connection to the next.
pub(super) type Speaking = Arc<ArcSwap<Handshakes>>;

/// Bytes of a file; a chain with its key has some thousand.
const MOST: u64 = 1 << 20;

/// The gate's certificate, and where it comes from.
pub(super) struct Certificate {
    source: Source,
    speaker: Speaker,
    callers: Option<Callers>,
    told: expiry::Told,
}

enum Source {
    Files {
        cert: PathBuf,
        key: PathBuf,
        looks: Looks<(Stamp, Stamp)>,
    },
    Own {
        ca: OwnCa,
        made: Made,
    },
    /// The authority's part is a task of its own, once it runs.
    Authority {
        told: acme::Told,
        task: Option<Box<Acme>>,
    },
}

/// Puts certificates in force.
#[derive(Clone)]
pub(super) struct Speaker {
    speaking: Speaking,
    /// What judges the certificates of clients, where they are asked for any.
    judge: Arc<ArcSwap<Option<Verifier>>>,
    watch: Arc<CertificateWatch>,
}

/// There is no certificate yet: handshakes end with an alert.
#[derive(Debug)]
struct NoneYet;

impl ResolvesServerCert for NoneYet {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl Speaker {
    fn mute(judge: Option<Verifier>) -> anyhow::Result<Self> {
        let usual = speak(Arc::new(NoneYet), judge.clone())?;
        let watch = Arc::new(CertificateWatch::default());
        watch.set(Vouched::NotYet);
        let speaking = Arc::new(ArcSwap::from_pointee(Handshakes { usual, challenge: None }));
        Ok(Self { speaking, judge: Arc::new(ArcSwap::from_pointee(judge)), watch })
    }

    fn put(&self, certificate: Arc<dyn ResolvesServerCert>) -> Result<(), rustls::Error> {
        let usual = speak(certificate, Option::clone(&self.judge.load()))?;
        let challenge = self.speaking.load().challenge.clone();
        self.speaking.store(Arc::new(Handshakes { usual, challenge }));
        Ok(())
    }

    /// Judges the certificates of clients so from the next connection on. No session from before is taken up again.
    fn judge_by(&self, judge: Verifier) -> Result<(), rustls::Error> {
        self.judge.store(Arc::new(Some(judge)));
        let certificate = Arc::clone(&self.speaking.load().usual.cert_resolver);
        self.put(certificate)
    }

    pub(super) fn speaking(&self) -> &Speaking {
        &self.speaking
    }

    /// How long the certificate in force is good for; none where there is none.
    pub(super) fn life(&self) -> Option<Life> {
        match self.watch.get() {
            Vouched::For(life) => Some(life),
            Vouched::Plain | Vouched::NotYet => None,
        }
    }

    /// Shows this certificate from the next connection on, and says how long it is good for.
    ///
    /// # Errors
    /// Where the key is not the certificate's, or either is of no use.
    pub(super) fn show(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Life, rustls::Error> {
        let life = chain.first().and_then(|cert| Life::of(cert));
        let unknown = || rustls::Error::General("does not say until when it is good".to_owned());
        let life = life.ok_or_else(unknown)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let shown = SingleCertAndKey::from(CertifiedKey::from_der(chain, key, &provider)?);
        self.put(Arc::new(shown))?;
        self.watch.set(Vouched::For(life));
        Ok(life)
    }
}

impl Certificate {
    /// Reads the pair that the settings name, makes one, or takes up what an authority gave before, if they want any.
    ///
    /// # Errors
    /// Where it cannot be read, is none, or does not match: a gate that was told to speak TLS speaks nothing else.
    pub(super) fn begin(settings: &gate_config::Tls, data: &Path) -> anyhow::Result<Option<Self>> {
        if !settings.is_on() {
            return Ok(None);
        }
        let (callers, judge) = Callers::begin(settings)?.unzip();
        let speaker = Speaker::mute(judge)?;
        let source = match (settings.cert.clone(), settings.key.clone()) {
            (Some(cert), Some(key)) => {
                let looks = Looks::new(stamp(&cert, &key));
                read(&cert, &key, &speaker)?;
                warn_of_readers(&key);
                Source::Files { cert, key, looks }
            }
            _ if settings.self_signed => {
                let ca = OwnCa::open(&directory(data)?)?;
                let made = Made::begin(&ca, &speaker)?;
                Source::Own { ca, made }
            }
            _ => {
                let acme = Acme::open(settings, directory(data)?, speaker.clone())?;
                Source::Authority { told: acme.told(), task: Some(Box::new(acme)) }
            }
        };
        Ok(Some(Certificate { source, speaker, callers, told: expiry::Told::default() }))
    }

    pub(super) fn speaking(&self) -> Speaking {
        Arc::clone(self.speaker.speaking())
    }

    /// What is known of the one in force.
    pub(super) fn watch(&self) -> Arc<CertificateWatch> {
        Arc::clone(&self.speaker.watch)
    }

    /// The gate's own authority, where it has one.
    pub(super) fn own_ca(&self) -> Option<&OwnCa> {
        match &self.source {
            Source::Own { ca, .. } => Some(ca),
            Source::Files { .. } | Source::Authority { .. } => None,
        }
    }

    /// What the start says of a public authority, where one is asked.
    pub(super) fn authority(&self) -> Option<&acme::Told> {
        match &self.source {
            Source::Authority { told, .. } => Some(told),
            Source::Files { .. } | Source::Own { .. } => None,
        }
    }

    /// What asks a public authority, to be run for as long as the gate serves. It is there once.
    pub(super) fn task(&mut self) -> Option<Box<Acme>> {
        match &mut self.source {
            Source::Authority { task, .. } => task.take(),
            Source::Files { .. } | Source::Own { .. } => None,
        }
    }

    /// Reads the pair anew where its files are others than before and stand still; makes one anew where the machine has
    /// other names than before, or the one in force is no longer young. Tells when it is about to expire.
    pub(super) fn look(&mut self) {
        let fresh = match &mut self.source {
            Source::Files { cert, key, looks } => looks.is_to_be_read(stamp(cert, key)).then(|| {
                warn_of_readers(key);
                let read = read(cert, key, &self.speaker).map_err(anyhow::Error::from);
                read.map(|()| format!("{}: read anew", cert.display()))
            }),
            Source::Own { ca, made } => made.anew(ca, &self.speaker),
            Source::Authority { .. } => None,
        };
        match fresh {
            Some(Ok(what)) => tracing::info!("{what}, in force from the next connection on"),
            Some(Err(error)) => tracing::error!("{error:#}; the certificate before stays in force"),
            None => {}
        }
        self.look_at_callers();
        self.tell_of_the_end();
    }

    fn look_at_callers(&mut self) {
        let Some(callers) = &mut self.callers else { return };
        let Some(judge) = callers.look() else { return };
        let file = callers.file().display();
        match judge.and_then(|judge| Ok(self.speaker.judge_by(judge)?)) {
            Ok(()) => tracing::info!("{file}: read anew, in force from the next connection on"),
            Err(error) => tracing::error!("{error:#}; who was believed before stays believed"),
        }
    }

    fn tell_of_the_end(&mut self) {
        let Some(life) = self.speaker.life() else { return };
        let Some(left) = self.told.is_due(life, unix()) else { return };
        let (what, cure) = match &self.source {
            Source::Files { cert, .. } => {
                (cert.display().to_string(), "renew it: other files are taken up as they come")
            }
            Source::Own { .. } => ("the certificate of the own authority".to_owned(), "start herdgate again"),
            Source::Authority { told, .. } => {
                (format!("the certificate for {}", told.names.join(", ")), "it could not be renewed so far")
            }
        };
        let day = acme::day(life.until);
        match left {
            Some(left) => {
                let left = gate_config::show_duration(Duration::from_secs(left / 3600 * 3600));
                tracing::warn!("{what}: expires in {left}, on {day}; {cure}");
            }
            None => tracing::error!("{what}: has expired on {day}; clients refuse it; {cure}"),
        }
    }
}

/// Seconds since 1970.
pub(super) fn unix() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The data directory. Before the database in it is open: see [`DataDir::find`].
fn directory(data: &Path) -> anyhow::Result<DataDir> {
    let dir = DataDir::open(data).map_err(with_hint)?;
    for note in dir.notes() {
        tracing::warn!("{note}");
    }
    Ok(dir)
}

/// Of both files, so that a change of either is one. `None` where one is not there: half of a change.
fn stamp(cert: &Path, key: &Path) -> Option<(Stamp, Stamp)> {
    Some((Stamp::at(cert)?, Stamp::at(key)?))
}

/// Which of the two files is at fault, and how.
enum Fault {
    Cert(anyhow::Error),
    Key(anyhow::Error),
}

impl Fault {
    /// The setting that names the file, and what is wrong with it.
    fn named(self) -> (&'static str, anyhow::Error) {
        match self {
            Fault::Cert(error) => ("tls.cert", error),
            Fault::Key(error) => ("tls.key", error),
        }
    }
}

impl From<Fault> for anyhow::Error {
    fn from(fault: Fault) -> Self {
        fault.named().1
    }
}

fn read(cert: &Path, key: &Path, speaker: &Speaker) -> Result<(), Fault> {
    let chain = chain(cert).map_err(Fault::Cert)?;
    let private = private(key).map_err(Fault::Key)?;
    speaker.show(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Fault::Key(anyhow!(
            "{} is not the key of {}\nhint: name the two files of one certificate",
            key.display(),
            cert.display()
        )),
        error => Fault::Cert(anyhow!("{}: {error}", cert.display())),
    })?;
    Ok(())
}

fn chain(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let named = file.display();
    let read = CertificateDer::pem_slice_iter(&bytes(file)?).collect::<Result<Vec<_>, _>>();
    let chain = read.map_err(|error| anyhow!("{named}: is no certificate in PEM: {error}"))?;
    if chain.is_empty() {
        bail!("{named}: holds no certificate\nhint: name the file that begins with BEGIN CERTIFICATE");
    }
    Ok(chain)
}

fn private(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let named = file.display();
    PrivateKeyDer::from_pem_slice(&bytes(file)?).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            anyhow!("{named}: holds no private key\nhint: name the file with BEGIN PRIVATE KEY")
        }
        error => anyhow!("{named}: is no private key in PEM: {error}"),
    })
}

/// What is wrong with the files that the settings name, each beside the setting that names it: what a start would end with.
pub(crate) fn examine(settings: &gate_config::Tls) -> Vec<(&'static str, anyhow::Error)> {
    let mut wrong = Vec::new();
    if let (Some(cert), Some(key)) = (&settings.cert, &settings.key) {
        match Speaker::mute(None) {
            Ok(speaker) => wrong.extend(read(cert, key, &speaker).err().map(Fault::named)),
            Err(error) => wrong.push(("tls.cert", error)),
        }
    }
    wrong.extend(Callers::begin(settings).err().map(|error| ("tls.client_ca", error)));
    if let Some(ca) = &settings.acme.ca {
        wrong.extend(add_roots(&mut RootCertStore::empty(), ca).err().map(|error| ("tls.acme.ca", error)));
    }
    wrong
}

fn speak(
    certificate: Arc<dyn ResolvesServerCert>,
    judge: Option<Verifier>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let knows_callers = judge.is_some();
    let config = match judge {
        Some(judge) => config.with_client_cert_verifier(judge),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Ours is an order of strength; and a client may come back without the work of a whole handshake.
    config.ignore_client_order = true;
    if knows_callers {
        // A session that is taken up again would outlive the certificate that it began with, time after time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    }
    Ok(Arc::new(config))
}

/// Adds every certificate of a file to those that are trusted.
///
/// # Errors
/// Where it cannot be read, or holds none that can be trusted.
pub(super) fn add_roots(roots: &mut RootCertStore, file: &Path) -> anyhow::Result<()> {
    let named = file.display();
    for one in chain(file)? {
        roots.add(one).with_context(|| format!("{named}: holds one that is no authority's"))?;
    }
    Ok(())
}

fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() || meta.len() > MOST {
        bail!("{}: is no file of a certificate or key", path.display());
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A key that others can read is no secret.
pub(super) fn warn_of_readers(key: &Path) {
    if fs::metadata(key).is_ok_and(|meta| meta.mode() & 0o004 != 0) {
        tracing::warn!("{}: everybody on this machine may read it; chmod o-r ends that", key.display());
    }
}
