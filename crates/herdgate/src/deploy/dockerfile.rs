//! `herdgate deploy dockerfile`: the gate in an image, alone, with Ollama or with the engine.
//!
//! The repository's own `Dockerfile` is what this prints where there are no settings; a test compares. Alone or with the engine
//! it runs as nobody in particular and writes to `/data` only, so that its root may be read-only. With Ollama it keeps what
//! containers of that kind promise: `AUTH_TOKEN`, `OLLAMA_MODEL`, port 7860, models in `/root/.ollama`. Needs nothing that one
//! builder alone knows: Docker, Podman, Buildah and kaniko all take it.

use super::{Act, Base, Deployment, Ground, Made, tame, tame_path};
use clap::{Args, ValueEnum};
use gate_config::Config;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The word of the command.
pub(crate) const KIND: &str = "dockerfile";
/// Who the gate is in an image without Ollama: the user that Distroless' images have for this.
pub(crate) const USER: &str = "65532";
/// The compiler that builds it, which the image of this name has.
const RUST: &str = concat!(env!("CARGO_PKG_RUST_VERSION"), ".0");

/// What is in the image beside the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum With {
    /// Ollama, which the gate starts
    Ollama,
    /// herdgate-engine, which the gate starts
    Engine,
}

/// Options of `herdgate deploy dockerfile`.
#[derive(Debug, Args)]
pub(crate) struct DockerfileArgs {
    /// What is in the image beside the gate
    #[arg(long, value_name = "WHAT")]
    pub(crate) with: Option<With>,
    /// A built herdgate of the folder that the image is built in (herdgate-engine beside it), instead of the sources
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
    /// Ollama's version, as a tag of its image; rocm, or VERSION-rocm, for GPUs of AMD
    #[arg(long, value_name = "TAG", default_value = "latest")]
    pub(crate) ollama: String,
}

/// Makes the file.
///
/// # Errors
/// Where the program's path cannot stand in it.
pub(crate) fn make(asked: &DockerfileArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    if asked.ollama != "latest" && asked.with != Some(With::Ollama) {
        anyhow::bail!("--ollama names what --with ollama puts into the image");
    }
    let path = Path::new("Dockerfile");
    let tag = tag(asked.with);
    let head = ground.head(path, "An image of herdgate.");
    let (build, image) = (build(asked)?, image(asked, ground.config())?);
    let run = usage(asked.with, ground.config());
    let text = format!("{head}#\n#   docker build -t {tag} .\n{run}\n{build}\n{image}");
    let mut deployment = Deployment::new(KIND, Base::Here, vec![Made::new(path, text)]);
    deployment.then = vec![Act::of(&format!("docker build -t {tag} ."))];
    if let Some(file) = &ground.loaded.file {
        deployment.notes.push(format!(
            "these settings are not in the image: run it with -v {}:/etc/herdgate/herdgate.toml:ro",
            ground.absolute(file).display()
        ));
    }
    if asked.binary.is_some() {
        deployment.notes.push(
            "the image has the C library of Debian 12: a binary that was built beside a newer one does not start in it \
             (GLIBC_… not found); without --binary it is built from sources in the image"
                .into(),
        );
    }
    if ports(ground.config()).is_empty() {
        deployment.notes.push(
            "every listener of the settings is on loopback: nobody outside of the container reaches one"
                .into(),
        );
    }
    Ok(deployment)
}

/// What such an image is called by those who build it.
pub(crate) fn tag(with: Option<With>) -> &'static str {
    match with {
        None => "herdgate",
        Some(With::Ollama) => "herdgate-ollama",
        Some(With::Engine) => "herdgate-engine",
    }
}

/// The ports that others reach, in the order of the settings.
pub(crate) fn ports(config: &Config) -> Vec<u16> {
    let open = config.listen.iter().map(|listener| listener.address.address);
    let mut ports: Vec<u16> = Vec::new();
    for address in open.filter(|address| !address.ip().is_loopback() && address.port() != 0) {
        if !ports.contains(&address.port()) {
            ports.push(address.port());
        }
    }
    ports
}

fn usage(with: Option<With>, config: &Config) -> String {
    let stop = (config.server.grace + Duration::from_secs(5)).as_secs();
    let (tag, lines) = (
        tag(with),
        match with {
            None => "-e HERDGATE_UPSTREAMS=http://gpu1:11434 -v herdgate:/data",
            Some(With::Engine) => "-v herdgate:/data",
            Some(With::Ollama) => {
                "-e AUTH_TOKEN=… -e OLLAMA_MODEL=qwen3:8b -v ollama_data:/root/.ollama -v herdgate:/data"
            }
        },
    );
    let more = match with {
        None => {
            "#\n# Nothing but /data is written: --read-only --cap-drop ALL --security-opt no-new-privileges all fit.\n"
        }
        Some(With::Engine) => {
            "#\n# Serves every *.gguf of /data/models, else its demo model. Nothing but /data is written.\n"
        }
        Some(With::Ollama) => {
            "#\n# Without AUTH_TOKEN there is a first key, and the log says where it lies. GPUs: --gpus all, or for AMD\n\
             # --device /dev/kfd --device /dev/dri and --ollama rocm. Root, because the models of such volumes are root's.\n"
        }
    };
    format!(
        "#   docker run -d -p 7860:7860 --stop-timeout {stop} {lines} {tag}\n\
         #   docker exec CONTAINER herdgate key create NAME\n{more}\
         # Without --stop-timeout Docker ends requests that run after 10 s, whatever server.grace says.\n\
         # Settings: -v ./herdgate.toml:/etc/herdgate/herdgate.toml:ro, or variables (HERDGATE_…).\n"
    )
}

/// What ends with all files of the gate's in `/out`.
fn build(asked: &DockerfileArgs) -> anyhow::Result<String> {
    let has_engine = asked.with == Some(With::Engine);
    let owned = format!(
        "    && install -d -m 0755 /out/owned /out/etc/herdgate \\\n    && install -d -m 0700 -o {USER} -g {USER} /out/owned/data\n"
    );
    if let Some(binary) = &asked.binary {
        let file = in_context("--binary", binary)?;
        let mut text =
            format!("FROM docker.io/library/debian:bookworm-slim AS build\nCOPY {file} /out/bin/herdgate\n");
        if has_engine {
            let engine = binary.with_file_name("herdgate-engine");
            text.push_str(&format!("COPY {} /out/bin/herdgate-engine\n", in_context("--binary", &engine)?));
        }
        text.push_str(&format!("RUN chmod 0755 /out/bin/* \\\n{owned}"));
        return Ok(text);
    }
    let (parts, programs) = if has_engine {
        (" -p herdgate -p herdgate-engine", "target/release/herdgate target/release/herdgate-engine")
    } else {
        (" -p herdgate", "target/release/herdgate")
    };
    let tools = if has_engine {
        "# What llama.cpp is built with.\n\
         RUN apt-get update \\\n    && apt-get install -y --no-install-recommends cmake g++ make libclang-dev \\\n    && rm -rf /var/lib/apt/lists/*\n"
    } else {
        ""
    };
    Ok(format!(
        "FROM docker.io/library/rust:{RUST}-slim-bookworm AS build\n\
         {tools}WORKDIR /src\n\
         COPY . .\n\
         # The compiler of this image; rust-toolchain.toml would also fetch what only development needs.\n\
         ENV RUSTUP_TOOLCHAIN={RUST}\n\
         RUN cargo build --release --locked{parts} \\\n    \
         && install -D -t /out/bin {programs} \\\n{owned}"
    ))
}

/// A file of the folder that an image is built in, as a word of `COPY`.
fn in_context<'p>(what: &str, path: &'p Path) -> anyhow::Result<&'p str> {
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    anyhow::ensure!(
        is_inside,
        "{what} {} is outside of the folder that the image is built in\nhint: copy it there",
        path.display()
    );
    let text = tame_path(what, path)?;
    // A comma, a star or a bracket means more than itself there.
    anyhow::ensure!(!text.contains(['*', '[', ']', ',']), "{what} {text} is a pattern to COPY");
    Ok(text)
}

/// What runs.
fn image(asked: &DockerfileArgs, config: &Config) -> anyhow::Result<String> {
    let mut text = match asked.with {
        Some(With::Ollama) => format!("FROM docker.io/ollama/ollama:{}\n", tame("--ollama", &asked.ollama)?),
        // glibc, libgcc, libstdc++ and libgomp, roots of public authorities, no shell.
        None | Some(With::Engine) => "FROM gcr.io/distroless/cc-debian12:nonroot\n".to_owned(),
    };
    text.push_str(
        "LABEL org.opencontainers.image.title=\"herdgate\" org.opencontainers.image.licenses=\"MIT OR Apache-2.0\"\n\
         COPY --from=build /out/bin/ /usr/local/bin/\n",
    );
    match asked.with {
        Some(With::Ollama) => text.push_str(
            "RUN mkdir -p /etc/herdgate /data && chmod 0700 /data\n\
             # The image has it for Ollama; the gate chooses where its own listens.\n\
             ENV OLLAMA_HOST=\"\"\n\
             ENV HERDGATE_DATA=/data\n\
             VOLUME [\"/data\", \"/root/.ollama\"]\n",
        ),
        None | Some(With::Engine) => {
            text.push_str(&format!(
                "COPY --from=build /out/etc/ /etc/\n\
                 COPY --from=build --chown={USER}:{USER} /out/owned/ /\n\
                 ENV HERDGATE_DATA=/data\n\
                 VOLUME [\"/data\"]\n\
                 USER {USER}:{USER}\n"
            ));
        }
    }
    text.push_str("# Where herdgate.toml is looked for.\nWORKDIR /etc/herdgate\n");
    for port in ports(config) {
        text.push_str(&format!("EXPOSE {port}\n"));
    }
    text.push_str(
        "HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD [\"/usr/local/bin/herdgate\", \"health\"]\n\
         ENTRYPOINT [\"/usr/local/bin/herdgate\"]\n\
         CMD [\"serve\"]\n",
    );
    Ok(text)
}

#[cfg(test)]
mod tests;
