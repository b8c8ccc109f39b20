//! Tiny models with random weights in the shapes of real architectures. What they say is nonsense, but always the same.

use crate::written::Written;

/// Shape of a tiny model.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) architecture: &'static str,
    pub(crate) width: u64,
    pub(crate) layers: u64,
    pub(crate) context: u32,
    /// A sentence-piece vocabulary with scores; otherwise byte-level pairs.
    pub(crate) pieces: bool,
    pub(crate) pooling: Option<u32>,
    pub(crate) both_ways: bool,
}

pub(crate) const LLAMA: Shape = Shape {
    architecture: "llama",
    width: 64,
    layers: 2,
    context: 256,
    pieces: false,
    pooling: None,
    both_ways: false,
};
pub(crate) const QWEN3: Shape = Shape { architecture: "qwen3", ..LLAMA };
/// With sliding attention and a sentence-piece vocabulary, like the real ones.
pub(crate) const GEMMA3: Shape = Shape { architecture: "gemma3", pieces: true, layers: 6, ..LLAMA };
pub(crate) const EMBEDDER: Shape = Shape { pooling: Some(1), ..LLAMA };
/// An encoder with a word-piece vocabulary, as sentence embedders are.
pub(crate) const BERT: Shape = Shape { architecture: "bert", both_ways: true, ..EMBEDDER };
/// Big enough that its computing shows.
pub(crate) const SLOW: Shape = Shape { width: 256, layers: 8, context: 4096, ..LLAMA };

const HEADS: u64 = 4;
const KV_HEADS: u64 = 2;
const TEMPLATE: &str = "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}\
                        {%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}";

/// The bytes of a model file. It never ends its answers by itself: the end mark's weights are zero.
pub(crate) fn model(shape: Shape) -> Vec<u8> {
    let mut file = Written::default();
    let tokens = describe(&mut file, shape);
    match shape.architecture {
        "bert" => bert_weights(&mut file, shape, tokens),
        _ => weights(&mut file, shape, tokens),
    }
    file.bytes()
}

fn describe(file: &mut Written, shape: Shape) -> u64 {
    let key = |name: &str| format!("{}.{name}", shape.architecture);
    let head = u32::try_from(shape.width / HEADS).unwrap();
    file.text("general.architecture", shape.architecture);
    file.number(&key("context_length"), shape.context);
    file.number(&key("embedding_length"), shape.width as u32);
    file.number(&key("block_count"), shape.layers as u32);
    file.number(&key("feed_forward_length"), 2 * shape.width as u32);
    file.number(&key("attention.head_count"), HEADS as u32);
    let is_bert = shape.architecture == "bert";
    file.number(&key("attention.head_count_kv"), if is_bert { HEADS } else { KV_HEADS } as u32);
    file.number(&key("attention.key_length"), head);
    file.number(&key("attention.value_length"), head);
    file.real(&key("attention.layer_norm_rms_epsilon"), 1e-6);
    file.real(&key("rope.freq_base"), 10000.0);
    file.number(&key("rope.dimension_count"), head);
    if shape.architecture == "gemma3" {
        file.number(&key("attention.sliding_window"), 32);
    }
    if let Some(pooling) = shape.pooling {
        file.number(&key("pooling_type"), pooling);
    }
    if shape.both_ways {
        file.flag(&key("attention.causal"), false);
    }
    file.text("tokenizer.chat_template", TEMPLATE);
    if shape.architecture == "bert" {
        return describe_words(file);
    }
    let (tokens, kinds) = if shape.pieces { pieces() } else { byte_pairs() };
    file.text("tokenizer.ggml.model", if shape.pieces { "llama" } else { "gpt2" });
    file.texts("tokenizer.ggml.tokens", &tokens);
    file.numbers("tokenizer.ggml.token_type", &kinds);
    if shape.pieces {
        let scores: Vec<f32> = (0..tokens.len()).map(|at| -(at as f32)).collect();
        file.reals("tokenizer.ggml.scores", &scores);
    } else {
        file.text("tokenizer.ggml.pre", "qwen2");
        file.texts("tokenizer.ggml.merges", &["h e".into(), "l o".into()]);
    }
    file.number("tokenizer.ggml.bos_token_id", 1);
    file.number("tokenizer.ggml.eos_token_id", 2);
    file.flag("tokenizer.ggml.add_bos_token", shape.pieces);
    tokens.len() as u64
}

/// A word-piece vocabulary: letters at the beginning of a word and within.
fn describe_words(file: &mut Written) -> u64 {
    let mut tokens: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    for letter in ('a'..='z').chain('0'..='9') {
        tokens.push(format!("\u{2581}{letter}"));
        tokens.push(letter.to_string());
    }
    let kinds: Vec<i32> = (0..tokens.len()).map(|at| if at < 5 { 3 } else { 1 }).collect();
    file.real("bert.attention.layer_norm_epsilon", 1e-12);
    file.text("tokenizer.ggml.model", "bert");
    file.text("tokenizer.ggml.pre", "jina-v2-en");
    file.texts("tokenizer.ggml.tokens", &tokens);
    file.numbers("tokenizer.ggml.token_type", &kinds);
    file.number("tokenizer.ggml.token_type_count", 2);
    for (name, id) in
        [("padding", 0), ("unknown", 1), ("cls", 2), ("bos", 2), ("seperator", 3), ("eos", 3), ("mask", 4)]
    {
        file.number(&format!("tokenizer.ggml.{name}_token_id"), id);
    }
    tokens.len() as u64
}

fn bert_weights(file: &mut Written, shape: Shape, tokens: u64) {
    let width = shape.width;
    let mut dice = Dice(7);
    file.tensor("token_embd.weight", &[width, tokens], dice.draw(width * tokens));
    file.tensor("token_types.weight", &[width, 2], dice.draw(width * 2));
    file.tensor(
        "position_embd.weight",
        &[width, shape.context.into()],
        dice.draw(width * u64::from(shape.context)),
    );
    let norm = |file: &mut Written, name: &str| {
        file.tensor(&format!("{name}.weight"), &[width], vec![1.0; width as usize]);
        file.tensor(&format!("{name}.bias"), &[width], vec![0.0; width as usize]);
    };
    norm(file, "token_embd_norm");
    for layer in 0..shape.layers {
        norm(file, &format!("blk.{layer}.attn_output_norm"));
        norm(file, &format!("blk.{layer}.layer_output_norm"));
        for (name, from, to) in [
            ("attn_q", width, width),
            ("attn_k", width, width),
            ("attn_v", width, width),
            ("attn_output", width, width),
            ("ffn_up", width, 2 * width),
            ("ffn_down", 2 * width, width),
        ] {
            file.tensor(&format!("blk.{layer}.{name}.weight"), &[from, to], dice.draw(from * to));
            file.tensor(&format!("blk.{layer}.{name}.bias"), &[to], dice.draw(to));
        }
    }
}

/// The byte-level vocabulary of GPT-2's kind, with two merges.
fn byte_pairs() -> (Vec<String>, Vec<i32>) {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec();
    for byte in 0..256u32 {
        let letter = if printable(byte) { byte } else { next };
        next += u32::from(!printable(byte));
        tokens.push(char::from_u32(letter).unwrap().to_string());
    }
    tokens.extend(["he".to_owned(), "lo".to_owned()]);
    let kinds = (0..tokens.len()).map(|at| if at < 3 { 3 } else { 1 }).collect();
    (tokens, kinds)
}

/// A sentence-piece vocabulary: a few pieces and all bytes.
fn pieces() -> (Vec<String>, Vec<i32>) {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let mut kinds = vec![2, 3, 3];
    for byte in 0..256 {
        tokens.push(format!("<0x{byte:02X}>"));
        kinds.push(6);
    }
    for piece in ["\u{2581}", "h", "e", "l", "o", "he", "lo", "\u{2581}he"] {
        tokens.push(piece.to_owned());
        kinds.push(1);
    }
    (tokens, kinds)
}

fn weights(file: &mut Written, shape: Shape, tokens: u64) {
    let (width, head) = (shape.width, shape.width / HEADS);
    let mut dice = Dice(7);
    let mut embeddings = dice.draw(width * tokens);
    embeddings[(2 * width) as usize..(3 * width) as usize].fill(0.0);
    file.tensor("token_embd.weight", &[width, tokens], embeddings);
    file.tensor("output_norm.weight", &[width], vec![1.0; width as usize]);
    for layer in 0..shape.layers {
        let mut norm = |name: &str, size: u64| {
            file.tensor(&format!("blk.{layer}.{name}.weight"), &[size], vec![1.0; size as usize]);
        };
        norm("attn_norm", width);
        norm("ffn_norm", width);
        if shape.architecture != "llama" {
            norm("attn_q_norm", head);
            norm("attn_k_norm", head);
        }
        if shape.architecture == "gemma3" {
            norm("post_attention_norm", width);
            norm("post_ffw_norm", width);
        }
        for (name, from, to) in [
            ("attn_q", width, width),
            ("attn_k", width, KV_HEADS * head),
            ("attn_v", width, KV_HEADS * head),
            ("attn_output", width, width),
            ("ffn_gate", width, 2 * width),
            ("ffn_up", width, 2 * width),
            ("ffn_down", 2 * width, width),
        ] {
            file.tensor(&format!("blk.{layer}.{name}.weight"), &[from, to], dice.draw(from * to));
        }
    }
}

/// Small, seeded, and the same everywhere.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn draw(&mut self, count: u64) -> Vec<f32> {
        (0..count).map(|_| (self.next() as f32 / (1u64 << 31) as f32 - 0.5) * 0.6).collect()
    }
}
