//! A certificate from a public authority (ACME): had, kept and renewed, for as long as the gate runs. The one before serves
//! until there is another, and a start with one that is still good needs no authority.
//!
//! A task of the control plane; no request and no handshake ever waits for it.

mod challenge;
mod order;
mod pace;
mod stored;
mod transport;

use super::tls::{Speaker, unix};
use anyhow::Context as _;
use challenge::Shown;
use gate_proxy::Life;
use gate_store::DataDir;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use order::Trouble;
use pace::{Failure, Tries};
use std::time::Duration;
use stored::{Account, Kept, Written};
use tokio::sync::watch;
use transport::Transport;

/// For all of an order. Longer than any wait in it.
const ORDER: Duration = Duration::from_mins(10);
/// How long the clock is trusted to run on evenly: a machine may sleep.
const STEP: Duration = Duration::from_mins(10);

/// What is wanted of which authority, and what came of it so far.
pub(super) struct Acme {
    names: Vec<String>,
    settings: gate_config::Acme,
    dir: DataDir,
    account: Account,
    speaker: Speaker,
    /// Whether the certificate in force, if there is one, is what the settings want.
    is_wanted: bool,
    /// When the authority is asked next, in seconds since 1970.
    next: u64,
    /// The certificate in force, where it could not be stored.
    unkept: Option<Unkept>,
}

/// What is in force and on no disk: an authority gives only a few in a week, so that it is not asked for another one.
struct Unkept {
    written: Written,
    /// Those to store it.
    tries: Tries,
    /// When the next one is, in seconds since 1970.
    next: u64,
}

impl Acme {
    /// Puts what the data directory holds in force, if it holds anything.
    ///
    /// # Errors
    /// Where it cannot be read, or holds what herdgate did not write.
    pub(super) fn open(settings: &gate_config::Tls, dir: DataDir, speaker: Speaker) -> anyhow::Result<Self> {
        let account = stored::account(&dir, &settings.acme.directory)?;
        let mut acme = Acme {
            names: settings.domains.clone(),
            settings: settings.acme.clone(),
            dir,
            account,
            speaker,
            is_wanted: false,
            next: 0,
            unkept: None,
        };
        // What is wrong with it is told now, and not in three months.
        Transport::new(acme.settings.ca.as_deref()).context("tls.acme")?;
        acme.take_up_stored()?;
        Ok(acme)
    }

    fn take_up_stored(&mut self) -> anyhow::Result<()> {
        let kept = stored::certificate(&self.dir)?;
        let renewal = kept.and_then(|kept| self.take_up(kept));
        self.next = self.account.tries.earliest(unix()).max(renewal.unwrap_or(0));
        Ok(())
    }

    /// What the gate before this one has come to since this one started.
    fn read_anew(&mut self) -> anyhow::Result<()> {
        self.account = stored::account(&self.dir, &self.settings.directory)?;
        self.take_up_stored()
    }

    /// What the start says of it.
    pub(super) fn told(&self) -> Told {
        let from = self.settings.directory.strip_prefix("https://").unwrap_or_default();
        Told {
            names: self.names.clone(),
            authority: from.split('/').next().unwrap_or_default().to_owned(),
            until: self.speaker.life().map(|life| day(life.until)),
            is_wanted: self.is_wanted,
        }
    }

    /// Sees to it that there is a certificate, for ever, but only while it `may`: of two gates at the same sockets one asks, or
    /// the authority would look at the one for the proof of the other.
    pub(super) async fn keep(mut self, mut may: watch::Receiver<bool>) {
        loop {
            if !*may.borrow_and_update() {
                if may.wait_for(|may| *may).await.is_err() {
                    return;
                }
                // What could not be stored is in force here, and newer than what is.
                if self.unkept.is_none()
                    && let Err(error) = self.read_anew()
                {
                    tracing::error!("{error:#}");
                }
            }
            tokio::select! {
                () = self.keep_on() => {}
                // What it shows for an order goes with it.
                rests = may.wait_for(|may| !*may) => if rests.is_err() {
                    return;
                },
            }
        }
    }

    async fn keep_on(&mut self) {
        loop {
            let store = self.unkept.as_ref().map(|unkept| unkept.next);
            let wait = store.map_or(self.next, |store| store.min(self.next)).saturating_sub(unix());
            if wait > 0 {
                tokio::time::sleep(STEP.min(Duration::from_secs(wait))).await;
                continue;
            }
            if store.is_some_and(|store| store <= self.next) {
                self.store();
                continue;
            }
            // Bound also by what its steps are bound by.
            let tried = Box::pin(tokio::time::timeout(ORDER, self.renew())).await;
            let late = || Trouble::new(Failure::Away, "no certificate after 10 minutes".to_owned());
            self.next = match tried.unwrap_or_else(|_elapsed| Err(late())) {
                Ok((kept, written)) => self.succeeded(kept, written),
                Err(trouble) => self.failed(&trouble),
            };
        }
    }

    async fn renew(&mut self) -> Result<(Kept, Written), Trouble> {
        let here = |error: anyhow::Error| Trouble::new(Failure::Away, format!("{error:#}"));
        let transport = Transport::new(self.settings.ca.as_deref()).map_err(here)?;
        let is_known = self.account.credentials.is_some();
        let account = order::account(&mut self.account, self.settings.email.as_deref(), &transport).await?;
        if !is_known {
            stored::keep_account(&self.dir, &self.account).map_err(here)?;
        }
        let mut shown = Shown::nothing(self.speaker.speaking());
        let given = order::certificate(&account, &self.names, &mut shown, &transport.patience()).await?;
        drop(shown);
        let none = || Trouble::new(Failure::Refused, "what the authority gave is no certificate".to_owned());
        stored::written(&self.account.directory, &given.key, &given.chain).ok_or_else(none)
    }

    fn succeeded(&mut self, kept: Kept, written: Written) -> u64 {
        let now = unix();
        let Some(life) = self.put_in_force(kept) else {
            return self.failed(&Trouble::new(Failure::Refused, "what came cannot be used".to_owned()));
        };
        self.account.tries.succeeded();
        self.unkept = Some(Unkept { written, tries: Tries::default(), next: now });
        tracing::info!(
            "a certificate for {}, good until {}: in force from the next connection on",
            self.names.join(", "),
            day(life.until)
        );
        self.store();
        self.keep_tries();
        pace::first_renewal(life, now, chance())
    }

    /// Stores the certificate in force for the next start. It is good without: only that is tried again where it fails.
    fn store(&mut self) {
        let Some(mut unkept) = self.unkept.take() else { return };
        let Err(error) = stored::keep_certificate(&self.dir, &unkept.written) else {
            if unkept.tries != Tries::default() {
                tracing::info!("the certificate for {} is stored now", self.names.join(", "));
            }
            return;
        };
        let now = unix();
        unkept.next = unkept.tries.failed(Failure::Away, None, now, chance());
        tracing::error!(
            "the certificate for {} is in force and cannot be stored, which is tried again in {}; a start before that asks for \
             another one: {error:#}",
            self.names.join(", "),
            gate_config::show_duration(Duration::from_secs(unkept.next.saturating_sub(now))),
        );
        self.unkept = Some(unkept);
    }

    fn failed(&mut self, trouble: &Trouble) -> u64 {
        if trouble.is_unknown {
            self.account.credentials = None;
        }
        let now = unix();
        let next = self.account.tries.failed(trouble.how, trouble.patience, now, chance());
        self.keep_tries();
        let then = match self.speaker.life() {
            Some(life) if !life.is_over(now) => {
                format!("the one in force is good until {}", day(life.until))
            }
            Some(life) => format!("the one in force has expired on {}", day(life.until)),
            None => "handshakes fail until there is one".to_owned(),
        };
        let cure = match trouble.how {
            Failure::Refused => "; port 443 of each name must lead to this gate from outside",
            Failure::Away => "",
        };
        tracing::error!(
            "no new certificate for {} from {}: {}; tried again in {}; {then}{cure}",
            self.names.join(", "),
            self.settings.directory,
            trouble.what,
            gate_config::show_duration(Duration::from_secs(next.saturating_sub(now))),
        );
        next
    }

    fn keep_tries(&self) {
        if let Err(error) = stored::keep_account(&self.dir, &self.account) {
            tracing::warn!("{error:#}");
        }
    }

    /// Puts a certificate of an earlier start in force, and says when it is to be renewed: at once where it is for other
    /// names than are wanted now, or from another authority.
    fn take_up(&mut self, kept: Kept) -> Option<u64> {
        self.is_wanted = kept.directory == self.settings.directory
            && kept.chain.first().is_some_and(|cert| covers(cert, &self.names));
        let life = self.put_in_force(kept)?;
        Some(if self.is_wanted { pace::renewal(life, chance()) } else { 0 })
    }

    fn put_in_force(&self, kept: Kept) -> Option<Life> {
        match self.speaker.show(kept.chain, kept.key) {
            Ok(life) => Some(life),
            Err(error) => {
                tracing::error!("the certificate for {} cannot be used: {error}", self.names.join(", "));
                None
            }
        }
    }
}

/// For the report of the start.
pub(super) struct Told {
    pub(super) names: Vec<String>,
    /// The host of the authority's directory.
    pub(super) authority: String,
    /// Until when there is a certificate.
    pub(super) until: Option<String>,
    /// It is for these names, and of this authority.
    pub(super) is_wanted: bool,
}

/// Whether the certificate is for each of these names, as clients judge it.
fn covers(cert: &tokio_rustls::rustls::pki_types::CertificateDer<'_>, names: &[String]) -> bool {
    use tokio_rustls::rustls::client::verify_server_name;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::server::ParsedCertificate;
    let Ok(parsed) = ParsedCertificate::try_from(cert) else { return false };
    let is_for = |name: &String| {
        ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    names.iter().all(is_for)
}

/// A day, as people write it.
pub(super) fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(
        || "a day beyond the calendar".to_owned(),
        |time| time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
