//! What is fixed for each reason: status, code, side, text and cure. The one match below is the only place where a status or a
//! code is chosen.

use super::{Reason, Side};

/// All that is fixed for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) side: Side,
    /// After so many seconds the same request may succeed.
    pub(crate) retry_after: Option<u32>,
    /// What the caller is told where nothing more exact is known.
    pub(crate) text: &'static str,
    /// What to do about it.
    pub(crate) cure: &'static str,
}

impl Facts {
    const fn new(
        status: u16,
        code: &'static str,
        side: Side,
        text: &'static str,
        cure: &'static str,
    ) -> Self {
        Facts { status, code, side, retry_after: None, text, cure }
    }

    const fn again_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl Reason {
    /// Everything that is fixed for it.
    pub(crate) const fn facts(self) -> Facts {
        use Side::{Downstream, Gate, Upstream};
        match self {
            Reason::BadRequest => Facts::new(
                400,
                "bad_request",
                Downstream,
                "the HTTP request has no single meaning",
                "Send one Host, one body length and a plain path; the text says what was wrong.",
            ),
            Reason::MissingBody => Facts::new(
                400,
                "missing_body",
                Downstream,
                "missing request body",
                "Send a JSON object; some tools drop the body of DELETE.",
            ),
            Reason::UpgradeRefused => Facts::new(
                400,
                "upgrade_refused",
                Downstream,
                "no WebSocket can be opened here",
                "Open it by GET over HTTP/1.1 on a `[[route]]` that has `upgrade = true`; HTTP/2 carries none here.",
            ),
            Reason::MalformedJson => Facts::new(
                400,
                "malformed_json",
                Downstream,
                "the body is not valid JSON",
                "Send one JSON object in UTF-8 without a byte order mark; the text names the byte.",
            ),
            Reason::MalformedForm => Facts::new(
                400,
                "malformed_form",
                Downstream,
                "the body is no multipart/form-data that has one reading",
                "Send one part for each field, `model` once and without a file name, CRLF at the end of lines, nothing \
                 before the first boundary or behind the last, and no query; the text says what was wrong.",
            ),
            Reason::AmbiguousBody => Facts::new(
                400,
                "ambiguous_body",
                Downstream,
                "the body can be read in two ways",
                "Give each field once, in lower case, with nothing after the object; `model` and `name` must agree.",
            ),
            Reason::WrongType => Facts::new(
                400,
                "wrong_type",
                Downstream,
                "a field has the wrong type",
                "Give the field that the text names the type that Ollama's API has for it: `model` is a string, `stream` and \
                 `insecure` are true or false, `options` is an object, `files` maps relative paths to digests.",
            ),
            Reason::BodyTooComplex => Facts::new(
                400,
                "body_too_complex",
                Downstream,
                "the body is nested too deep or has too many fields",
                "Keep to 64 levels, 256 fields in one object that the gate reads, and 256 bytes in a field's name.",
            ),
            Reason::InvalidModelName => Facts::new(
                400,
                "invalid_model_name",
                Downstream,
                "invalid model name; names look like qwen3:8b or hf.co/user/model:tag",
                "Names look like `qwen3:8b` or `hf.co/user/model:tag`.",
            ),
            Reason::ModelRequired => Facts::new(
                400,
                "model_required",
                Downstream,
                "model is required",
                "Name a model in the field `model`.",
            ),
            Reason::ConflictingCredentials => Facts::new(
                400,
                "conflicting_credentials",
                Downstream,
                "the request carries more than one credential; send one, or the same in each field",
                "Send one Authorization field, or x-api-key, or both with the same key.",
            ),
            Reason::NoCredentials => Facts::new(
                401,
                "no_credentials",
                Downstream,
                "no API key given; send it as \"Authorization: Bearer sk-hg-…\" or as x-api-key",
                "Send a key; `herdgate key create NAME` makes one.",
            ),
            Reason::BadCredentialsForm => Facts::new(
                401,
                "bad_credentials_form",
                Downstream,
                "the Authorization field is neither \"Bearer KEY\" nor Basic with the key as password; \
                 send \"Authorization: Bearer sk-hg-…\"",
                "Write the word Bearer, one blank and the key, or use x-api-key.",
            ),
            Reason::InvalidKey => Facts::new(
                401,
                "invalid_key",
                Downstream,
                "the API key is unknown, expired or revoked; ask the operator of this gate for a new one",
                "Check the key for typing errors; `herdgate key list` shows which keys are valid.",
            ),
            Reason::MissingScope => Facts::new(
                403,
                "missing_scope",
                Downstream,
                "the API key may not do this",
                "Ask the operator for the scope that the text names: `herdgate key set NAME --scope …`, with all that the key shall have.",
            ),
            Reason::ModelNotAllowed => Facts::new(
                403,
                "model_not_allowed",
                Downstream,
                "the API key may not use this model",
                "Ask for a model that the key may use: `/api/tags` lists them; `herdgate key set NAME --models …` changes which.",
            ),
            Reason::RegistryNotAllowed => Facts::new(
                403,
                "registry_not_allowed",
                Downstream,
                "models may not be taken from this registry",
                "Use a model of a registry that `manage.registries` names, or add this one there.",
            ),
            Reason::InsecureRefused => Facts::new(
                403,
                "insecure_refused",
                Downstream,
                "insecure transfers are refused; leave out \"insecure\"",
                "Leave out `insecure`; a registry without a valid certificate is asked on the upstream itself.",
            ),
            Reason::PushDisabled => Facts::new(
                403,
                "push_disabled",
                Downstream,
                "pushing models is not switched on at this gate",
                "Set `manage.push = true`, or push on the upstream itself.",
            ),
            Reason::ProxyTargetRefused => Facts::new(
                403,
                "proxy_target_refused",
                Downstream,
                "this gate is no proxy to other hosts",
                "Use it as the server itself; as a proxy it answers only for the names in `auth.proxy_names`.",
            ),
            Reason::OriginNotAllowed => Facts::new(
                403,
                "origin_not_allowed",
                Downstream,
                "pages of this origin may not use this gate from a browser",
                "Add the page's origin to `cors.origins`, for example `https://app.example` or `http://localhost:*`.",
            ),
            Reason::TlsRequired => Facts::new(
                403,
                "tls_required",
                Downstream,
                "this gate takes no key over a connection without TLS: whoever listened has read it; use https, and replace \
                 the key",
                "Use the `https://` address, and replace the key: it was sent in clear. `tls.plain_keys` and `redirect` of a \
                 `[[listen]]` say where TLS is wanted.",
            ),
            Reason::UnknownRoute => Facts::new(
                404,
                "unknown_route",
                Downstream,
                "nothing is open at this path; it must be written exactly, and only OpenAI clients have a base URL that ends in /v1",
                "Check the path: it must be written exactly, without a slash at its end; the base URL of OpenAI \
                 clients ends in /v1, that of Ollama and Anthropic clients does not.",
            ),
            Reason::ModelNotFound => Facts::new(
                404,
                "model_not_found",
                Downstream,
                "model not found",
                "Choose one of `/api/tags`, or pull it on an upstream: `ollama pull MODEL`.",
            ),
            Reason::MethodNotAllowed => Facts::new(
                405,
                "method_not_allowed",
                Downstream,
                "this method is not open at this path",
                "Use one of the methods in the answer's Allow field.",
            ),
            Reason::RequestTimeout => Facts::new(
                408,
                "request_timeout",
                Downstream,
                "the request's body came too slowly, or stood still for too long",
                "Send the body without long pauses and faster, or lower `limits.body_rate`, or raise `timeouts.head`, which is how \
                 long a pause may be; a head that is late only closes the connection.",
            ),
            Reason::BodyTooLarge => Facts::new(
                413,
                "body_too_large",
                Downstream,
                "the body is larger than this gate takes",
                "Send less, or raise `limits.body`; for a blob it is `limits.upload`.",
            ),
            Reason::UnsupportedEncoding => Facts::new(
                415,
                "unsupported_encoding",
                Downstream,
                "the body has a Content-Encoding that this gate does not read; send it uncompressed",
                "Send the body uncompressed. Not even zstd is read, which Ollama takes on five of its /v1 routes: what is \
                 checked and what is sent on must be the same bytes.",
            ),
            Reason::ExpectationFailed => Facts::new(
                417,
                "expectation_failed",
                Downstream,
                "this gate knows no expectation but 100-continue",
                "Leave out the Expect field.",
            ),
            Reason::HeadTooLarge => Facts::new(
                431,
                "head_too_large",
                Downstream,
                "the request's head is larger than this gate takes",
                "Send fewer or shorter fields (cookies?), or raise `limits.head`.",
            ),
            Reason::TooManyFailures => Facts::new(
                429,
                "too_many_failures",
                Downstream,
                "too many wrong keys came from your address; wait a minute, then check the key",
                "Mend the client that sends the wrong key; a valid key passes all the time.",
            )
            .again_after(60),
            Reason::AddressFull => Facts::new(
                429,
                "address_full",
                Downstream,
                "as many requests from your address are under way as one address may have; try again in a moment",
                "Ask again once others have ended, or raise `limits.per_address`. Only requests that a trusted proxy passes on \
                 are counted so; of others their connections are.",
            )
            .again_after(1),
            Reason::UnsupportedTransferCoding => Facts::new(
                501,
                "unsupported_transfer_coding",
                Downstream,
                "this gate knows no transfer coding but chunked",
                "Send the body with a Content-Length or chunked.",
            ),
            Reason::UnsupportedHttpVersion => Facts::new(
                505,
                "unsupported_http_version",
                Downstream,
                "this gate speaks HTTP/1.1, HTTP/1.0 and HTTP/2",
                "Use HTTP/1.1, or HTTP/2 with prior knowledge.",
            ),
            Reason::NoUpstream => Facts::new(
                503,
                "no_upstream",
                Gate,
                "this gate has no model server to ask",
                "Start Ollama, or name a server: `herdgate serve --upstream URL`; the gate's start-up says what it tried.",
            )
            .again_after(5),
            Reason::UpstreamLoop => Facts::new(
                503,
                "upstream_loop",
                Gate,
                "an upstream of this gate leads back to it",
                "Take the upstream that is the gate itself, or a gate or proxy before it, out of the settings; the gate's log \
                 names it.",
            )
            .again_after(30),
            Reason::Loading => Facts::new(
                503,
                "loading",
                Gate,
                "the local model server is starting",
                "Ask again in a few seconds; if it lasts, the gate's log says why it does not start.",
            )
            .again_after(2),
            Reason::ModelPulling => Facts::new(
                503,
                "model_pulling",
                Gate,
                "the model is being pulled; try again in a moment",
                "Ask again when the time of Retry-After is over; the text says how far it is. `herdgate models` shows it too.",
            )
            .again_after(10),
            Reason::ModelsUnlisted => Facts::new(
                503,
                "models_unlisted",
                Gate,
                "an upstream does not tell its models, and the others do not list this one: it may be one of a cloud",
                "The gate's log says why `GET /api/tags` fails there. A key with the scope `cloud` may use the model now.",
            )
            .again_after(5),
            Reason::QueueFull => Facts::new(
                503,
                "queue_full",
                Gate,
                "too many requests are waiting for a model; try again in a moment",
                "Ask again later, add an upstream, or raise `queue.depth`.",
            )
            .again_after(5),
            Reason::QueueTimeout => Facts::new(
                503,
                "queue_timeout",
                Gate,
                "no model server became free in time; try again in a moment",
                "Ask again later, add an upstream, or raise `queue.max_wait`.",
            )
            .again_after(5),
            Reason::BodiesFull => Facts::new(
                503,
                "bodies_full",
                Gate,
                "the gate holds as many request bodies as it may; try again in a moment",
                "Ask again, or raise `limits.held` if the machine has the memory.",
            )
            .again_after(2),
            Reason::StoreUnavailable => Facts::new(
                503,
                "store_unavailable",
                Gate,
                "the key is not known and the store of keys cannot be read; try again in a moment",
                "The gate heals by itself once its database can be read; its log and `/readyz` say what is wrong.",
            )
            .again_after(5),
            Reason::ShuttingDown => Facts::new(
                503,
                "shutting_down",
                Gate,
                "the gate is ending",
                "Ask again in a few seconds.",
            )
            .again_after(5),
            Reason::UpstreamUnreachable => Facts::new(
                502,
                "upstream_unreachable",
                Upstream,
                "no model server could be reached; it may be starting, so try again in a moment",
                "Check that the upstreams run and that their addresses are right: `herdgate config show`.",
            )
            .again_after(5),
            Reason::UpstreamFailed => Facts::new(
                502,
                "upstream_failed",
                Upstream,
                "the model server broke off or did not answer properly",
                "Ask again; the log of the model server says why (out of memory is the usual reason).",
            ),
            Reason::UpstreamTimeout => Facts::new(
                504,
                "upstream_timeout",
                Upstream,
                "the model server was silent for too long",
                "Ask again with less at once, or raise `timeouts.idle`.",
            ),
            Reason::Internal => Facts::new(
                500,
                "internal",
                Gate,
                "the gate failed at this request",
                "Report it, with the gate's log record of the request.",
            ),
        }
    }
}
