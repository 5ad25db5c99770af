//! The table of patterns: what is taken out, under which name. `docs/secrets.md` shows the same table.

/// What a pattern takes out. The discriminant is the row of [`PATTERNS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Password,
    Secret,
    Token,
    Key,
    Authorization,
    Cookie,
    Signature,
    UrlPassword,
    ProgramOption,
    SqlPassword,
    PrivateKey,
    Jwt,
    Aws,
    Alibaba,
    Tencent,
    Google,
    Github,
    Gitlab,
    Slack,
    Webhook,
    Telegram,
    Stripe,
    Npm,
    Pypi,
    DockerHub,
    AiKey,
    Vault,
    Provider,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Name: what stands in `[redacted:NAME:DIGEST]`.
    pub name: &'static str,
    /// What it takes out, for people.
    pub what: &'static str,
    /// An example, with the secret as `…`.
    pub example: &'static str,
    pub(super) kind: Kind,
    /// Literals (in lower case) of which one must be there, and the expression whose group `s` is the secret.
    pub(super) token: Option<(&'static [&'static str], &'static str)>,
}

const fn context(kind: Kind, name: &'static str, what: &'static str, example: &'static str) -> Pattern {
    Pattern { name, what, example, kind, token: None }
}

const fn token(
    kind: Kind,
    name: &'static str,
    what: &'static str,
    example: &'static str,
    anchors: &'static [&'static str],
    expression: &'static str,
) -> Pattern {
    Pattern { name, what, example, kind, token: Some((anchors, expression)) }
}

/// Every pattern. Those first are found by their context (`redact/pairs.rs`, `urls.rs`, `options.rs`), the others by
/// what they look like.
pub static PATTERNS: &[Pattern] = &[
    context(
        Kind::Password,
        "password",
        "Value of a name that ends in password, passwd, passphrase, passcode, or in the word pass, pwd, pw, psw",
        "DB_PASSWORD=…",
    ),
    context(
        Kind::Secret,
        "secret",
        "Value of a name that ends in secret, or in erlang_cookie",
        "\"clientSecret\": \"…\"",
    ),
    context(Kind::Token, "token", "Value of a name that ends in token or bearer", "--token …"),
    context(
        Kind::Key,
        "key",
        "Value of a name that ends in (api, access, secret, private, account, shared, auth, signing, encryption, \
         master, license, app, service, server, storage, pre-shared)-key, client-key-data, psk",
        "AccountKey=…;",
    ),
    context(
        Kind::Authorization,
        "authorization",
        "Credentials of Authorization and Proxy-Authorization; of Basic the digest is of the password alone",
        "Authorization: Bearer …",
    ),
    context(Kind::Cookie, "cookie", "Value of each cookie of Cookie, of the cookie of Set-Cookie", "Cookie: sid=…"),
    context(
        Kind::Signature,
        "signature",
        "Query parameters sig, signature, X-Amz-Signature, X-Amz-Security-Token, X-Goog-Signature, auth, sign",
        "https://host/a?sig=…",
    ),
    context(
        Kind::UrlPassword,
        "url-password",
        "Password of a URL's user; for http also a user without password that looks like a token",
        "postgres://shop:…@db/shop",
    ),
    context(
        Kind::ProgramOption,
        "program-option",
        "Passwords that are known by the program: see the second table",
        "mysql -p…",
    ),
    token(
        Kind::SqlPassword,
        "sql-password",
        "Password in SQL",
        "IDENTIFIED BY '…'",
        &["identified", "password"],
        r"(?i)\b(?:identified\s{1,4}by|password)\s{1,4}'(?P<s>[^'\n]{4,256})'",
    ),
    token(
        Kind::PrivateKey,
        "private-key",
        "What is between the lines of a PEM or PGP private key (to the end of the text, if that is cut), age identities",
        "-----BEGIN PRIVATE KEY-----…",
        &["age-secret-key-"],
        r"(?i)\b(?P<s>AGE-SECRET-KEY-1[A-Z0-9]{58})",
    ),
    token(
        Kind::Jwt,
        "jwt",
        "JSON Web Token",
        "eyJ….….…",
        &["eyj"],
        r"\b(?P<s>eyJ[A-Za-z0-9_=-]{8,}\.[A-Za-z0-9_=-]{8,}(?:\.[A-Za-z0-9_=+/-]*)?)",
    ),
    token(
        Kind::Aws,
        "aws",
        "AWS access key id",
        "AKIA…",
        &["akia", "asia", "abia", "acca"],
        r"\b(?P<s>(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b",
    ),
    token(
        Kind::Alibaba,
        "alibaba",
        "Alibaba Cloud access key id",
        "LTAI…",
        &["ltai"],
        r"\b(?P<s>LTAI[A-Za-z0-9]{12,26})\b",
    ),
    token(
        Kind::Tencent,
        "tencent",
        "Tencent Cloud secret id",
        "AKID…",
        &["akid"],
        r"\b(?P<s>AKID[A-Za-z0-9]{13,40})\b",
    ),
    token(
        Kind::Google,
        "google",
        "Google API key, OAuth token and client secret",
        "AIza…",
        &["aiza", "ya29.", "gocspx-"],
        r"\b(?P<s>AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,})",
    ),
    token(
        Kind::Github,
        "github",
        "GitHub token",
        "ghp_…",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        r"\b(?P<s>gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})",
    ),
    token(
        Kind::Gitlab,
        "gitlab",
        "GitLab token",
        "glpat-…",
        &["glpat-", "gldt-", "glrt-", "glptt-", "glcbt-"],
        r"\b(?P<s>gl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_.-]{16,})",
    ),
    token(
        Kind::Slack,
        "slack",
        "Slack token",
        "xoxb-…",
        &["xox", "xapp-"],
        r"\b(?P<s>xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,})",
    ),
    token(
        Kind::Webhook,
        "webhook",
        "The secret part of a webhook's URL: Slack, Discord, Teams, Feishu, Lark, WeCom (DingTalk: token)",
        "https://hooks.slack.com/services/…",
        &["hooks.slack.com/", "/api/webhooks/", "webhook.office.com/", "/bot/v2/hook/", "/webhook/send?key="],
        concat!(
            r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|/api/webhooks/[0-9]{5,25}/",
            r"|webhook\.office\.com/webhookb2/|/bot/v2/hook/|/webhook/send\?key=)(?P<s>[A-Za-z0-9_@/-]{8,})"
        ),
    ),
    token(
        Kind::Telegram,
        "telegram",
        "Telegram bot token",
        "https://api.telegram.org/bot…/sendMessage",
        &[":aa"],
        r"(?:\b|bot)(?P<s>[0-9]{8,10}:AA[A-Za-z0-9_-]{33})",
    ),
    token(
        Kind::Stripe,
        "stripe",
        "Stripe secret and restricted key, webhook secret",
        "sk_live_…",
        &["k_live_", "k_test_", "whsec_"],
        r"\b(?P<s>[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{16,})",
    ),
    token(Kind::Npm, "npm", "npm token", "npm_…", &["npm_"], r"\b(?P<s>npm_[A-Za-z0-9]{36,})"),
    token(Kind::Pypi, "pypi", "PyPI token", "pypi-…", &["pypi-"], r"\b(?P<s>pypi-[A-Za-z0-9_-]{32,})"),
    token(
        Kind::DockerHub,
        "docker-hub",
        "Docker Hub token, Swarm join token",
        "dckr_pat_…",
        &["dckr_", "swmtkn-"],
        r"\b(?P<s>dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}|SWMTKN-1-[a-z0-9-]{50,})",
    ),
    token(
        Kind::AiKey,
        "ai-key",
        "Keys of model providers: Anthropic, OpenAI and those alike, Hugging Face",
        "sk-ant-…",
        &["sk-", "hf_"],
        r"\b(?P<s>sk-(?:ant|proj|svcacct|admin|or-v1|lf)-[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9]{32,}|hf_[A-Za-z0-9]{30,})",
    ),
    token(
        Kind::Vault,
        "vault",
        "HashiCorp Vault and Terraform Cloud token",
        "hvs.…",
        &["hvs.", "hvb.", "hvr.", ".atlasv1."],
        r"\b(?P<s>hv[sbr]\.[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,})",
    ),
    token(
        Kind::Provider,
        "provider",
        "Tokens of DigitalOcean, SendGrid, Shopify, Grafana, Databricks, Linear, Doppler, Tailscale",
        "dop_v1_…",
        &[
            "do_v1_", "dop_v1_", "doo_v1_", "sg.", "shpat_", "shpss_", "glsa_", "glc_", "dapi", "lin_api_", "dp.pt.",
            "tskey-",
        ],
        concat!(
            r"\b(?P<s>do[opr]_v1_[a-f0-9]{64}|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}|shp(?:at|ss)_[a-fA-F0-9]{32}",
            r"|glsa_[A-Za-z0-9_]{32,}|glc_[A-Za-z0-9+/=]{32,}|dapi[a-f0-9]{32}|lin_api_[A-Za-z0-9]{32,}",
            r"|dp\.pt\.[A-Za-z0-9]{32,}|tskey-[a-z]{3,10}-[A-Za-z0-9-]{16,})"
        ),
    ),
];
