//! `postbell tokens`: who may ask the hub, and what for.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::client::{Call, Client, encode};
use crate::connection::ConnectionArgs;
use crate::ending::{Ending, note};
use crate::out::{self, print};
use crate::show::clean;
use crate::subscriptions::word;
use crate::when;

/// Make, look at and revoke tokens, which let others than this machine's administrator ask the hub;
/// deny JWTs of an issuer.
#[derive(Args, Debug)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    command: Command,
    /// Print the hub's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(AddArgs),
    /// List every token with what it is for; none is shown itself.
    List,
    /// End a token at once: streams it opened are closed, deliveries stop.
    Revoke {
        /// The token's name or id.
        name: String,
    },
    Deny(DenyArgs),
    /// List whose JWTs are denied.
    Denied,
    /// Take back a denial: JWTs that are good let in again.
    Allow {
        #[command(flatten)]
        whom: Whom,
    },
}

/// Deny a person, or a single JWT, of the issuer in oidc.issuer, at once and over restarts: streams
/// that were opened are closed.
///
/// A JWT is good until it ends (oidc.lifetime_max), whatever becomes of the person meanwhile. Tokens of
/// the hub's own that the person has besides stay good: revoke them too, and their subscriptions end.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell tokens deny --subject f3b1c2d4-4711
  postbell tokens deny --jti 8a6e0b1c --until 25h
  postbell tokens allow --subject f3b1c2d4-4711")]
struct DenyArgs {
    #[command(flatten)]
    whom: Whom,
    /// Until when: for so long (12h, 30d), or to a time such as 2027-01-01T00:00:00Z [default: until it
    /// is taken back].
    #[arg(long, value_name = "WHEN", value_parser = when::expiry)]
    until: Option<jiff::Timestamp>,
}

/// Whose JWTs.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Whom {
    /// What the issuer calls the person: the JWTs' claim sub.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// What the issuer calls a single JWT: its claim jti.
    #[arg(long, value_name = "ID")]
    jti: Option<String>,
}

impl Whom {
    /// The member of a request and its value; clap sees to it that there is one.
    fn named(&self) -> (&'static str, &str) {
        match (&self.subject, &self.jti) {
            (Some(subject), _) => ("subject", subject),
            (None, jti) => ("jti", jti.as_deref().unwrap_or_default()),
        }
    }
}

/// Make a token and print it, this once.
///
/// An admin may do everything; a service what its scopes say, for all users or for some; a user sees
/// their own mailboxes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell tokens add phone --role user --user john@example.org --expires 90d
  postbell tokens add prometheus --role service --scope monitor
  postbell tokens add crm --role service --scope read --scope subscribe --user sales@example.org
  postbell tokens add store2 --role service --scope publish --store mail2.example.org > store2.token
  postbell tokens add phone2 --role user --user john --store mail2.example.org")]
struct AddArgs {
    /// A name of your choice, for the other commands.
    name: String,
    /// Whose it is.
    #[arg(long)]
    role: Role,
    /// The user it is for; for a service, one of those whose events it reaches; may be given several
    /// times then.
    #[arg(short, long, value_name = "USER")]
    user: Vec<String>,
    /// What it is for (publish, read, subscribe, monitor); may be given several times. A service needs
    /// one; a user has read and subscribe where none is given.
    #[arg(short, long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The host of a store: for publish, one whose events it may hand in; for users, one in which they
    /// have their mailboxes; '*' for any. May be given several times [default: the hub's own store].
    #[arg(long, value_name = "HOST")]
    store: Vec<String>,
    /// A name on the client's certificate, which then stands in the place of a secret: its DNS name,
    /// mail address, URI or common name (docs/tls.md).
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    /// When it ends: after so long (12h, 30d), or a time such as 2027-01-01T00:00:00Z [default:
    /// never].
    #[arg(long, value_name = "WHEN", value_parser = when::expiry)]
    expires: Option<jiff::Timestamp>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Admin,
    Service,
    User,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Service => "service",
            Self::User => "user",
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: TokensArgs) -> anyhow::Result<Ending> {
    let mut client = args.connection.client()?;
    match args.command {
        Command::Add(add) => add_one(&mut client, &add, args.json).await,
        Command::List => list(&mut client, args.json).await,
        Command::Revoke { name } => revoke(&mut client, &name, args.json).await,
        Command::Deny(deny) => deny_one(&mut client, &deny, args.json).await,
        Command::Denied => denied(&mut client, args.json).await,
        Command::Allow { whom } => allow(&mut client, &whom, args.json).await,
    }
}

async fn add_one(client: &mut Client, add: &AddArgs, as_json: bool) -> anyhow::Result<Ending> {
    let mut request = Map::new();
    request.insert("name".to_owned(), add.name.clone().into());
    request.insert("role".to_owned(), add.role.as_str().into());
    request.insert("users".to_owned(), json!(add.user));
    request.insert("scope".to_owned(), json!(add.scope));
    request.insert("stores".to_owned(), json!(add.store));
    if let Some(name) = &add.certificate {
        request.insert("certificate".to_owned(), name.clone().into());
    }
    if let Some(at) = add.expires {
        request.insert("expires".to_owned(), at.to_string().into());
    }
    let answer = client.json(Call::post("/v1/tokens", &Value::Object(request))).await?;
    if as_json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    if let Some(name) = &add.certificate {
        note(&format!("{}: for whoever shows a certificate of {}", clean(&add.name), clean(name)));
        return Ok(Ending::Done);
    }
    print(word(&answer, "/token").unwrap_or_default())?;
    note(&format!("{}: keep it: the hub does not, and it is not shown again", clean(&add.name)));
    Ok(Ending::Done)
}

async fn list(client: &mut Client, as_json: bool) -> anyhow::Result<Ending> {
    let answer = client.json(Call::get("/v1/tokens")).await?;
    if as_json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    let all = answer.get("tokens").and_then(Value::as_array);
    let rows: Vec<Vec<String>> = all.into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        note("there are no tokens but the hub's own (make one with: postbell tokens add)");
    } else {
        print(out::columns(&["NAME", "ROLE", "USERS", "SCOPE", "EXPIRES", "LAST USED"], &rows))?;
    }
    Ok(Ending::Done)
}

fn row(one: &Value) -> Vec<String> {
    let is_over = one.get("expired").and_then(Value::as_bool).unwrap_or_default();
    let mut cells: Vec<String> = ["/name", "/role", "/users", "/scope", "/expires", "/lastUsed"]
        .iter()
        .map(|pointer| word(one, pointer).unwrap_or_else(|| "–".to_owned()))
        .collect();
    if let Some(expires) = cells.get_mut(4).filter(|_| is_over) {
        expires.push_str(" (over)");
    }
    cells
}

async fn revoke(client: &mut Client, name: &str, as_json: bool) -> anyhow::Result<Ending> {
    let path = format!("/v1/tokens/{}", encode(name));
    client.ask(Call::new(Method::DELETE, &path)).await?.refusal()?;
    if as_json {
        out::json(&json!({ "revoked": name }))?;
    } else {
        note(&format!("{}: revoked", clean(name)));
    }
    Ok(Ending::Done)
}

async fn deny_one(client: &mut Client, deny: &DenyArgs, as_json: bool) -> anyhow::Result<Ending> {
    let (member, value) = deny.whom.named();
    let mut request = Map::new();
    request.insert(member.to_owned(), value.into());
    if let Some(at) = deny.until {
        request.insert("until".to_owned(), at.to_string().into());
    }
    let answer = client.json(Call::post(DENIED, &Value::Object(request))).await?;
    if as_json {
        out::json(&answer)?;
    } else {
        note(&format!("{}: denied", clean(value)));
    }
    Ok(Ending::Done)
}

async fn denied(client: &mut Client, as_json: bool) -> anyhow::Result<Ending> {
    let answer = client.json(Call::get(DENIED)).await?;
    if as_json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    let all = answer.get("denied").and_then(Value::as_array);
    let row = |one: &Value| {
        let cells = ["/subject", "/jti", "/since", "/until", "/issuer"].iter();
        cells.map(|pointer| word(one, pointer).unwrap_or_else(|| "–".to_owned())).collect()
    };
    let rows: Vec<Vec<String>> = all.into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        note("nobody is denied");
    } else {
        print(out::columns(&["SUBJECT", "JTI", "SINCE", "UNTIL", "ISSUER"], &rows))?;
    }
    Ok(Ending::Done)
}

async fn allow(client: &mut Client, whom: &Whom, as_json: bool) -> anyhow::Result<Ending> {
    let (member, value) = whom.named();
    let path = format!("{DENIED}?{member}={}", encode(value));
    client.ask(Call::new(Method::DELETE, &path)).await?.refusal()?;
    if as_json {
        out::json(&json!({ "allowed": value }))?;
    } else {
        note(&format!("{}: denied no more", clean(value)));
    }
    Ok(Ending::Done)
}

/// Whose JWTs are denied.
const DENIED: &str = "/v1/tokens/denied";
