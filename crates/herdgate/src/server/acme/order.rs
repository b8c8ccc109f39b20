//! One certificate from an authority: the account, the order, the proof for each name, the certificate (RFC 8555).

use super::challenge::Shown;
use super::pace::Failure;
use super::stored::Account;
use super::transport::{Patience, Transport};
use gate_types::Secret;
use instant_acme::{
    Account as Acme, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use std::time::Duration;

/// How often the authority is asked whether it has decided: rarer each time, for so long.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_mins(3));

/// Why there is no certificate.
pub(super) struct Trouble {
    pub(super) how: Failure,
    pub(super) what: String,
    /// So many seconds the authority wants to be left alone for.
    pub(super) patience: Option<u64>,
    /// The authority does not know the account.
    pub(super) is_unknown: bool,
}

/// What was given.
pub(super) struct Given {
    pub(super) key: Secret,
    /// In PEM.
    pub(super) chain: String,
}

impl Trouble {
    pub(super) fn new(how: Failure, what: String) -> Self {
        Self { how, what, patience: None, is_unknown: false }
    }

    fn of(error: Error, patience: &Patience) -> Self {
        let (how, what, is_unknown) = match error {
            Error::Api(problem) => {
                let kind = problem.r#type.as_deref().unwrap_or_default();
                let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
                // Not what was asked for, but how: it counts towards no limit.
                let is_passing = matches!(kind, "badNonce" | "serverInternal" | "accountDoesNotExist")
                    || problem.status.is_some_and(|status| status >= 500);
                let how = if is_passing { Failure::Away } else { Failure::Refused };
                (how, told(&problem), kind == "accountDoesNotExist")
            }
            Error::Timeout(_) => (Failure::Away, "the authority did not decide in time".to_owned(), false),
            Error::Json(_) => (Failure::Away, "its answer is none of ACME".to_owned(), false),
            error => (Failure::Away, error.to_string(), false),
        };
        Self { how, what, patience: patience.get(), is_unknown }
    }
}

/// An authority's words, on one line and of bounded length.
fn told(problem: &Problem) -> String {
    problem.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect()
}

/// The account with the authority, made where there is none: then `kept` holds it, and must be kept before anything else.
pub(super) async fn account(
    kept: &mut Account,
    email: Option<&str>,
    transport: &Transport,
) -> Result<Acme, Trouble> {
    let patience = transport.patience();
    let trouble = |error| Trouble::of(error, &patience);
    let builder = || Acme::builder_with_http(Box::new(transport.clone()));
    if let Some(credentials) = kept.copy() {
        return builder().from_credentials(credentials).await.map_err(trouble);
    }
    let contact = email.map(|address| format!("mailto:{address}"));
    let asked = NewAccount {
        contact: &contact.iter().map(String::as_str).collect::<Vec<_>>(),
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let made = builder().create(&asked, kept.directory.clone(), None).await;
    let (account, credentials) = made.map_err(trouble)?;
    kept.credentials = Some(credentials);
    Ok(account)
}

/// A certificate for these names.
pub(super) async fn certificate(
    account: &Acme,
    names: &[String],
    shown: &mut Shown,
    patience: &Patience,
) -> Result<Given, Trouble> {
    let trouble = |error| Trouble::of(error, patience);
    let asked: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&asked)).await.map_err(trouble)?;
    prove(&mut order, shown, patience).await?;
    match order.poll_ready(&POLLS).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) | Err(Error::Api(_)) => return Err(why_not(&mut order, patience).await),
        Err(error) => return Err(trouble(error)),
    }
    let key = Secret::new(order.finalize().await.map_err(trouble)?);
    let chain = order.poll_certificate(&POLLS).await.map_err(trouble)?;
    Ok(Given { key, chain })
}

/// Shows the proof for each name that still needs one, and calls the authority to look.
async fn prove(order: &mut Order, shown: &mut Shown, patience: &Patience) -> Result<(), Trouble> {
    let trouble = |error| Trouble::of(error, patience);
    let mut all = order.authorizations();
    while let Some(one) = all.next().await {
        let mut one = one.map_err(trouble)?;
        if one.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = one.identifier().to_string();
        let Some(mut challenge) = one.challenge(ChallengeType::TlsAlpn01) else {
            let what = format!("the authority does not look at {name} by TLS-ALPN-01");
            return Err(Trouble::new(Failure::Refused, what));
        };
        let digest = challenge.key_authorization().digest();
        let added = shown.add(&name, digest.as_ref());
        added.map_err(|error| Trouble::new(Failure::Away, format!("{name}: {error:#}")))?;
        challenge.set_ready().await.map_err(trouble)?;
    }
    Ok(())
}

/// What the authority saw of the names that it did not find here.
async fn why_not(order: &mut Order, patience: &Patience) -> Trouble {
    let mut seen = Vec::new();
    let mut all = order.authorizations();
    while let Some(one) = all.next().await {
        let Ok(mut one) = one else { continue };
        let name = one.identifier().to_string();
        // What is known of it is from before the authority looked.
        let Ok(state) = one.refresh().await else { continue };
        let problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        seen.extend(problems.map(|problem| format!("{name}: {}", told(problem))));
    }
    let what = match seen.as_slice() {
        [] => "the authority does not give it, and does not say why".to_owned(),
        seen => format!("the authority did not find this gate there: {}", seen.join("; ")),
    };
    Trouble { patience: patience.get(), ..Trouble::new(Failure::Refused, what) }
}
