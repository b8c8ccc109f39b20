//! What somebody does with a stack, and what they should know beside it.

use super::{LEAD, Mode, Stack, publish};
use crate::deploy::is_loopback;

impl Stack<'_> {
    /// What somebody does with the file, as its first comment.
    pub(super) fn steps(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        if self.image.is_none() {
            let with = if self.mode == Mode::AllInOne { " --with ollama" } else { "" };
            lines.push(format!(
                "herdgate deploy dockerfile{with} > Dockerfile    # in the folder of the sources"
            ));
        }
        if let Some((file, how)) = self.mounts.key_file() {
            lines.extend(how.map(str::to_owned));
            lines.push(format!("sudo chown {} {file} && sudo chmod 0400 {file}", self.owner()));
        }
        if self.asked.coolify {
            lines.push("in Coolify: New Resource, Docker Compose, this text".to_owned());
        } else {
            lines.push("docker compose up --detach".to_owned());
        }
        if matches!(self.mode, Mode::Stack | Mode::Provider | Mode::AllInOne) && !self.asked.coolify {
            lines.push("docker compose exec herdgate herdgate key create alice".to_owned());
            lines.push("docker compose exec herdgate herdgate pull qwen3:8b".to_owned());
        }
        if self.is_local_optional() {
            lines.push(format!(
                "back to an Ollama of its own: {LEAD}=http://ollama:11434 in .env, then docker compose --profile ollama up --detach"
            ));
        }
        lines.iter().fold("#\n".to_owned(), |text, line| format!("{text}#   {line}\n"))
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.image.is_none() {
            let with = if self.mode == Mode::AllInOne { " --with ollama" } else { "" };
            notes.push(format!(
                "the image is built from the Dockerfile beside it (`herdgate deploy dockerfile{with}` prints one); {} is for one that is there",
                "--image"
            ));
            if self.asked.coolify {
                notes.push("Coolify builds only what lies in a repository: paste it with --image, or deploy the repository".to_owned());
            }
        }
        notes.extend(self.mounts.notes(self.owner()));
        notes.extend(self.upstream_notes());
        notes.extend(self.elsewhere.as_ref().and_then(|url| publish::unknown(&url.host, &self.asked.host)));
        let is_open = self.published().is_some_and(|publish| publish.is_everywhere());
        if self.mode != Mode::Consumer && is_open {
            notes.push(
                "published ports go past ufw: --publish 172.17.0.1:PORT keeps it to containers of this machine, and \
                 `herdgate deploy firewall` closes it to the others"
                    .to_owned(),
            );
        }
        if !self.ground.config().local.models.is_empty() && matches!(self.mode, Mode::Stack | Mode::Provider)
        {
            notes.push(
                "local.models is for the gate's own Ollama: pull them (docker compose exec herdgate herdgate pull MODEL), or name \
                 them as models of an [[upstream]]"
                    .to_owned(),
            );
        }
        let is_plain = !self.ground.config().tls.is_on();
        if self.asked.coolify && self.mode != Mode::Consumer && is_plain {
            notes.push(
                "Coolify's proxy stands before the gate: server.trusted_proxies with its network shows clients' addresses".to_owned(),
            );
        }
        notes
    }

    /// What the upstreams of the settings are to a container.
    fn upstream_notes(&self) -> Vec<String> {
        let config = self.ground.config();
        if self.mode == Mode::Consumer || !config.upstreams_given {
            return Vec::new();
        }
        let mut notes = Vec::new();
        for url in config.upstreams.iter().map(|upstream| &upstream.url) {
            if is_loopback(&url.host) {
                notes.push(super::services::machine_note(url));
            } else {
                notes.extend(publish::unknown(&url.host, &self.asked.host));
            }
        }
        notes
    }
}
