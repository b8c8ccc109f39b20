//! Files that only root may read, handed to the gate as credentials (systemd.exec(5), `LoadCredential=`). systemd copies them when
//! the service starts, so a certificate that is renewed later is taken up by a restart: `herdgate-renewed.path`.

use super::{SystemdArgs, word};
use crate::deploy::{Ground, tame};
use std::path::{Path, PathBuf};

/// Each credential, and what finds it.
pub(super) struct Credentials {
    /// Name and file.
    all: Vec<(String, String)>,
    /// Variable, and the name of its credential.
    variables: Vec<(&'static str, String)>,
    certificate: Option<String>,
}

impl Credentials {
    pub(super) fn of(
        asked: &SystemdArgs,
        ground: &Ground<'_>,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Self> {
        let tls = &ground.config().tls;
        let mut made = Credentials { all: Vec::new(), variables: Vec::new(), certificate: None };
        for (name, variable, file) in [
            ("tls-cert", "HERDGATE_TLS__CERT", &tls.cert),
            ("tls-key", "HERDGATE_TLS__KEY", &tls.key),
            ("tls-client-ca", "HERDGATE_TLS__CLIENT_CA", &tls.client_ca),
            ("tls-acme-ca", "HERDGATE_TLS__ACME__CA", &tls.acme.ca),
        ] {
            let Some(file) = file else { continue };
            made.all.push((name.to_owned(), word(variable, &ground.absolute(file))?));
            made.variables.push((variable, name.to_owned()));
        }
        made.certificate =
            tls.cert.as_deref().map(|file| word("tls.cert", &ground.absolute(file))).transpose()?;
        if let Some(file) = &asked.auth_token_file {
            // The gate finds a credential of this name by itself.
            made.all.push(("AUTH_TOKEN".to_owned(), word("--auth-token-file", &ground.absolute(file))?));
        } else if ground.config().auth_token.is_some() {
            notes.push(
                "the key in AUTH_TOKEN is not in the unit: name its file with --auth-token-file".to_owned(),
            );
        }
        made.add_upstreams(ground, notes)?;
        Ok(made)
    }

    fn add_upstreams(&mut self, ground: &Ground<'_>, notes: &mut Vec<String>) -> anyhow::Result<()> {
        for (place, upstream) in ground.config().upstreams.iter().enumerate() {
            let own = upstream.name.clone().unwrap_or_else(|| format!("upstream{}", place + 1));
            let client = upstream.client.as_ref();
            for (setting, file) in [
                ("token_file", upstream.token.as_ref()),
                ("ca", upstream.ca.as_ref()),
                ("client_cert", client.map(|(cert, _)| cert)),
                ("client_key", client.map(|(_, key)| key)),
            ] {
                let Some(file) = file.map(|file| ground.absolute(&file.path)) else { continue };
                let folder = folder("herdgate.service");
                if let Ok(name) = file.strip_prefix(&folder) {
                    let name = tame("a credential's name", name.to_str().unwrap_or_default())?.to_owned();
                    let source = PathBuf::from("/etc/herdgate").join(&name);
                    self.add(name, word(setting, &source)?);
                } else {
                    let name = format!("{own}-{}", setting.replace('_', "-"));
                    notes.push(format!(
                        "upstream {own}: write {setting} = \"{folder}/{name}\" into the settings; the gate's user may not read {}",
                        file.display()
                    ));
                    self.add(name, word(setting, &file)?);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, file: String) {
        if !self.all.iter().any(|(known, _)| *known == name) {
            self.all.push((name, file));
        }
    }

    /// The lines of a unit that is to have them.
    pub(super) fn lines(&self, unit: &str) -> Vec<String> {
        let loads = self.all.iter().map(|(name, file)| format!("LoadCredential={name}:{file}"));
        let folder = folder(unit);
        let variables =
            self.variables.iter().map(|(variable, name)| format!("Environment={variable}={folder}/{name}"));
        loads.chain(variables).collect()
    }

    /// The units that see a renewed certificate, where one is in a file.
    pub(super) fn renewed(&self) -> Option<[String; 2]> {
        let file = self.certificate.as_ref()?;
        let path = format!(
            "[Unit]\n\
             Description=Watches the certificate of herdgate\n\n\
             [Path]\n\
             PathChanged={file}\n\n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        );
        let service = "[Unit]\n\
             Description=Restarts herdgate with a renewed certificate\n\n\
             [Service]\n\
             Type=oneshot\n\
             # Certificate and key come one after the other.\n\
             ExecStartPre=/bin/sleep 5\n\
             # Streams that run have server.grace to end; where herdgate.socket holds the ports, new clients wait meanwhile.\n\
             # Not waited for: a file that changes while this unit runs starts nothing.\n\
             ExecStart=/bin/systemctl --no-block try-restart herdgate.service\n"
            .to_owned();
        Some([path, service])
    }
}

/// Where the service finds its credentials, by a path that is known beforehand.
fn folder(unit: &str) -> String {
    Path::new("/run/credentials").join(unit).display().to_string()
}
