//! What a checked header says about a model: the words of Ollama's listings, limits, and what it needs.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::gguf::{Header, HeaderError, Tensor};

/// Longest text that is embedded at once: attention needs memory in the square of it.
pub(crate) const LONGEST_EMBEDDED: u64 = 2048;
/// Tokens that one decode call may compute.
pub(crate) const BATCH: u64 = 512;

/// What a model can be used for. A file is one or the other, as in Ollama.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Generates text (and embeds it, if asked).
    Completion,
    /// Embeds only: a pooling type is set, or attention looks both ways.
    Embedding,
}

impl Purpose {
    /// Ollama's word in `capabilities`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Purpose::Completion => "completion",
            Purpose::Embedding => "embedding",
        }
    }
}

/// Sampling values that the file itself asks for (`general.sampling.*`).
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Preferred {
    /// `general.sampling.temp`
    pub(crate) temperature: Option<f32>,
    /// `general.sampling.top_k`
    pub(crate) top_k: Option<i64>,
    /// `general.sampling.top_p`
    pub(crate) top_p: Option<f32>,
    /// `general.sampling.min_p`
    pub(crate) min_p: Option<f32>,
}

/// One model file, as far as its header tells.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `general.architecture`.
    pub(crate) architecture: String,
    /// What it is for.
    pub(crate) purpose: Purpose,
    /// Longest context that it was trained for, in tokens.
    pub(crate) context_length: u64,
    /// Width of its vectors.
    pub(crate) embedding_length: u64,
    /// Number of weights.
    pub(crate) parameters: u64,
    /// Jinja text of its chat template.
    pub(crate) template: Option<String>,
    /// Sampling values of the file.
    pub(crate) preferred: Preferred,
    /// SHA-256 over the header and the file's length, hex. Like Ollama's digest it names a version, not the weights' bytes.
    pub(crate) digest: String,
    /// The header, for `/api/show`.
    pub(crate) header: Header,
    kv_bytes_per_token: u64,
    scratch_bytes: u64,
}

impl Facts {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`HeaderError`], without the path.
    pub(crate) fn read(path: &Path) -> Result<Facts, HeaderError> {
        let header = Header::read(path)?;
        let digest = digest(path, &header)?;
        Self::of(header, digest)
    }

    fn of(header: Header, digest: String) -> Result<Facts, HeaderError> {
        let missing = |key: &str| HeaderError::Missing(key.to_owned());
        let architecture =
            header.text("general.architecture").ok_or_else(|| missing("general.architecture"))?.to_owned();
        let own = |key: &str| header.number(&format!("{architecture}.{key}"));
        let size = |key: &'static str| {
            let undescribed = || HeaderError::Undescribed { named: architecture.clone(), key };
            own(key).filter(|n| *n > 0).ok_or_else(undescribed)
        };
        let context_length = size("context_length")?;
        let embedding_length = size("embedding_length")?;
        if header.text("tokenizer.ggml.model").is_none() {
            return Err(missing("tokenizer.ggml.model"));
        }
        let both_ways = header.metadata.get(&format!("{architecture}.attention.causal"));
        let embeds = own("pooling_type").is_some_and(|kind| kind > 0)
            || matches!(both_ways, Some(super::gguf::Value::Bool(false)));
        let heads = own("attention.head_count").unwrap_or(1).max(1);
        let kv_heads = own("attention.head_count_kv").unwrap_or(heads);
        let key = own("attention.key_length").unwrap_or(embedding_length / heads);
        let value = own("attention.value_length").unwrap_or(embedding_length / heads);
        let layers = own("block_count").unwrap_or(1);
        let kv_bytes_per_token =
            layers.saturating_mul(kv_heads).saturating_mul(key.saturating_add(value)).saturating_mul(2);
        let widest = own("feed_forward_length").unwrap_or(embedding_length).saturating_mul(3);
        let vocabulary = own("vocab_size").unwrap_or_else(|| vocabulary(&header, embedding_length));
        let scratch_bytes = widest.saturating_add(vocabulary).saturating_mul(BATCH * 4);
        Ok(Facts {
            purpose: if embeds { Purpose::Embedding } else { Purpose::Completion },
            context_length,
            embedding_length,
            parameters: header.tensors.iter().map(elements).fold(0, u64::saturating_add),
            template: header.text("tokenizer.chat_template").map(str::to_owned),
            preferred: preferred(&header),
            digest,
            kv_bytes_per_token,
            scratch_bytes,
            architecture,
            header,
        })
    }

    /// Memory in bytes for the model with `contexts` contexts of `ctx` tokens: an estimate from above for common shapes.
    pub(crate) fn needs(&self, ctx: u64, contexts: u64) -> u64 {
        let kv = self.kv_bytes_per_token.saturating_mul(ctx).saturating_mul(contexts);
        self.header.length.saturating_add(kv).saturating_add(self.scratch_bytes)
    }

    /// Ollama's `parameter_size`: `886K`, `1.50M`, `7.2B`.
    pub(crate) fn parameter_size(&self) -> String {
        let n = self.parameters;
        let whole = |unit: u64| n.is_multiple_of(unit);
        let scaled = |unit: u64| n as f64 / unit as f64;
        match n {
            1_000_000_000.. if whole(1_000_000_000) => format!("{:.0}B", scaled(1_000_000_000)),
            1_000_000_000.. => format!("{:.1}B", scaled(1_000_000_000)),
            1_000_000.. if whole(1_000_000) => format!("{:.0}M", scaled(1_000_000)),
            1_000_000.. => format!("{:.2}M", scaled(1_000_000)),
            1_000.. => format!("{:.0}K", scaled(1_000)),
            _ => n.to_string(),
        }
    }

    /// Ollama's `quantization_level`, by `general.file_type`.
    pub(crate) fn quantization(&self) -> &'static str {
        match self.header.number("general.file_type") {
            Some(0) => "F32",
            Some(1) => "F16",
            Some(2) => "Q4_0",
            Some(3) => "Q4_1",
            Some(7) => "Q8_0",
            Some(8) => "Q5_0",
            Some(9) => "Q5_1",
            Some(10) => "Q2_K",
            Some(11) => "Q3_K_S",
            Some(12) => "Q3_K_M",
            Some(13) => "Q3_K_L",
            Some(14) => "Q4_K_S",
            Some(15) => "Q4_K_M",
            Some(16) => "Q5_K_S",
            Some(17) => "Q5_K_M",
            Some(18) => "Q6_K",
            Some(32) => "BF16",
            Some(38) => "MXFP4",
            _ => "unknown",
        }
    }
}

fn vocabulary(header: &Header, embedding_length: u64) -> u64 {
    let embeddings = header.tensors.iter().find(|t| t.name == "token_embd.weight");
    embeddings.map_or(0, |t| elements(t) / embedding_length.max(1))
}

/// The header's reader has refused shapes whose product is too large; their sum may still be.
fn elements(tensor: &Tensor) -> u64 {
    tensor.shape.iter().product()
}

fn preferred(header: &Header) -> Preferred {
    Preferred {
        temperature: header.real("general.sampling.temp"),
        top_k: header.number("general.sampling.top_k").and_then(|k| i64::try_from(k).ok()),
        top_p: header.real("general.sampling.top_p"),
        min_p: header.real("general.sampling.min_p"),
    }
}

fn digest(path: &Path, header: &Header) -> Result<String, HeaderError> {
    use std::io::Read;
    let mut sha = Sha256::new();
    let mut rest = std::io::BufReader::new(std::fs::File::open(path)?.take(header.header_length));
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = rest.read(&mut piece)?;
        if n == 0 {
            break;
        }
        sha.update(piece.get(..n).unwrap_or_default());
    }
    sha.update(header.length.to_le_bytes());
    Ok(sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::super::gguf::Value;
    use super::*;

    #[test]
    fn impossibly_many_weights_are_counted_without_overflow() {
        let metadata = [
            ("general.architecture", Value::Text("x".into())),
            ("x.context_length", Value::Unsigned(8)),
            ("x.embedding_length", Value::Unsigned(8)),
            ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ];
        let tensor = |shape: &[u64]| Tensor { name: "t".into(), shape: shape.to_vec(), kind: 99 };
        let header = Header {
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
            tensors: vec![tensor(&[u64::MAX]), tensor(&[2, 3])],
            length: 0,
            header_length: 0,
        };
        assert_eq!(Facts::of(header, String::new()).unwrap().parameters, u64::MAX);
    }
}
