//! The command line of `herdgate-engine`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Serves GGUF files with llama.cpp and speaks Ollama's API.
#[derive(Debug, Clone, Parser)]
#[command(name = "herdgate-engine", version, about)]
pub(crate) struct Args {
    /// A GGUF file to serve; may be given several times. A file that cannot be used ends the engine. Without any model
    /// it serves its demo model.
    #[arg(long = "model", value_name = "FILE")]
    pub(crate) models: Vec<PathBuf>,
    /// Serve every *.gguf file in this directory. Files that cannot be used are named and skipped.
    #[arg(long, value_name = "DIR")]
    pub(crate) models_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:11434")]
    pub(crate) listen: SocketAddr,
    /// Listen even on an address that is no loopback one. The engine has no keys and no limits: whoever reaches it may
    /// use it.
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    /// Answers of one model that are computed at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) parallel: u32,
    /// Tokens of context per answer; no more than the model was trained for.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub(crate) ctx: u32,
    /// Threads that compute [default: one less than there are cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=512))]
    pub(crate) threads: Option<i32>,
    /// Requests of one model that may wait; more are answered with 503.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub(crate) queue: u32,
    /// End when standard input ends, so that no engine outlives the program that started it.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
    /// Load one file, compute two tokens and end: how the engine itself tries a file before it uses it.
    #[arg(long = "try", value_name = "FILE", hide = true)]
    pub(crate) trial: Option<PathBuf>,
}

impl Args {
    /// The address to listen on.
    ///
    /// # Errors
    /// Others could reach it, and nobody said that they may.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        if self.insecure_listen || self.is_private() {
            return Ok(self.listen);
        }
        Err(format!(
            "--listen {}: others can reach this address, and the engine has no keys and no limits; listen on 127.0.0.1 \
             or [::1] with herdgate in front, or add --insecure-listen if something else keeps others out",
            self.listen
        ))
    }

    /// Whether only this machine's programs can reach it.
    pub(crate) fn is_private(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// The number of computing threads. All cores would be slower on a busy machine: llama.cpp's threads wait for the
    /// slowest one at every step.
    pub(crate) fn threads(&self) -> i32 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.unwrap_or_else(|| i32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(args: &[&str]) -> Result<SocketAddr, String> {
        Args::try_parse_from([&["herdgate-engine"], args].concat()).unwrap().address()
    }

    #[test]
    fn an_address_that_others_can_reach_must_be_asked_for_twice() {
        for private in ["127.0.0.1:0", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(address(&["--listen", private]), Ok(private.parse().unwrap()));
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            let problem = address(&["--listen", open]).unwrap_err();
            assert!(problem.contains(open) && problem.contains("--insecure-listen"), "{problem}");
            assert_eq!(address(&["--listen", open, "--insecure-listen"]), Ok(open.parse().unwrap()));
        }
        assert!(address(&[]).is_ok());
    }
}
