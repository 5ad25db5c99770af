//! What is taken out: for each pattern texts with a hole for the secret.

use super::{digest, marks, redactor};
use tw_report::redact::PATTERNS;

/// Where a secret stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In free text.
    Text,
    /// In a block of arguments, written with ` | ` between them.
    Argv,
    /// In a block of variables, written with ` | ` between them.
    Environ,
}
use Place::{Argv, Environ, Text};

/// The pattern, where, a template with `{}` for the secret, and the secret: what it starts with and how many letters and
/// digits follow (tokens are put together here so that no scanner takes them for real ones).
pub type Case = (&'static str, Place, &'static str, &'static str, usize);

pub const CASES: &[Case] = &[
    ("password", Environ, "HOME=/root | DB_PASSWORD={} | PATH=/bin", "", 12),
    ("password", Environ, "MYSQL_ROOT_PASSWORD={}", "", 9),
    ("password", Environ, "PGPASSWORD={}", "", 9),
    ("password", Environ, "APP_DB_PASS={}", "", 9),
    ("password", Environ, "MAIL_PASSWD='{}'", "", 9),
    ("password", Argv, "app | --password | {} | -v", "", 9),
    ("password", Argv, "app | --password={} | -v", "", 9),
    ("password", Argv, "java | -Ddb.password={} | -jar | a.jar", "", 9),
    ("password", Argv, "docker | run | -e | DB_PASSWORD={} | nginx", "", 9),
    ("password", Argv, "kubectl | create | secret | generic | db | --from-literal=password={}", "", 9),
    ("password", Argv, "mount | -o | username=x,password={},ro | //h/s | /mnt", "", 9),
    ("password", Argv, "sh | -c | export DB_PASSWORD={}; run", "", 9),
    ("password", Argv, "app | Server=db;Database=x;User Id=sa;Password={};Encrypt=true", "", 9),
    ("password", Argv, "app | Password={};Server=db", "", 9),
    ("password", Argv, "curl | -d | {\"user\":\"u\",\"password\":\"{}\"} | http://h", "", 9),
    ("password", Argv, "curl | -d | user=u&password={}&x=1 | http://h", "", 9),
    ("password", Text, "app --password {} -v", "", 9),
    ("password", Text, "app --db-password \"{}\" -v", "", 9),
    ("password", Text, "connection failed (password={})", "", 9),
    ("password", Text, "login: u, Password: {}", "", 9),
    ("password", Text, "Data Source=db;Pwd={};", "", 9),
    ("password", Text, r#"{"passphrase": "{}", "n": 1}"#, "", 9),
    ("password", Text, r#"{\"password\":\"{}\",\"n\":1}"#, "", 9),
    ("password", Text, "config['password'] = '{}'", "", 9),
    ("password", Text, "password = {}", "", 9),
    ("password", Text, "userPassword => '{}'", "", 9),
    ("password", Text, "Shell | command=app --password={} user=root", "", 9),
    ("password", Text, "密码 password={} 用户=root", "", 9),
    ("secret", Environ, "CLIENT_SECRET={}", "", 20),
    ("secret", Environ, "RABBITMQ_ERLANG_COOKIE={}", "", 20),
    ("secret", Text, r#"{"clientSecret": "{}"}"#, "", 20),
    ("secret", Text, "client_secret={}&grant_type=x", "", 20),
    ("token", Environ, "github_token={}", "", 20),
    ("token", Environ, "VAULT_TOKEN={}", "", 20),
    ("token", Argv, "docker | swarm | join | --token | {} | h:2377", "", 20),
    ("token", Text, "kubectl --token {} get pods", "", 20),
    ("token", Text, "GET /v1?x=1&access_token={}&y=2 HTTP/1.1", "", 20),
    ("token", Text, "https://oapi.dingtalk.com/robot/send?access_token={}", "", 64),
    ("token", Text, "X-Auth-Token: {}", "", 20),
    ("token", Text, "curl --oauth2-bearer {} https://h", "", 20),
    ("key", Environ, "AWS_SECRET_ACCESS_KEY={}", "", 40),
    ("key", Environ, "SERVICE_API_KEY={}", "", 20),
    ("key", Environ, "WG_PRIVATE_KEY={}", "", 44),
    ("key", Text, "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=x", "", 64),
    ("key", Text, "Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey={}", "", 44),
    ("key", Text, "X-Api-Key: {}", "", 24),
    ("key", Text, "client-key-data: {}", "", 80),
    ("key", Argv, "tailscale | up | --authkey | {}", "", 30),
    ("authorization", Argv, "curl | -H | Authorization: Bearer {} | https://h", "", 24),
    ("authorization", Text, "curl -H 'Authorization: Bearer {}' https://h", "", 24),
    ("authorization", Text, "curl -H Authorization: token {} https://h", "", 24),
    ("authorization", Text, "GET / HTTP/1.1\r\nProxy-Authorization: Bearer {}\r\n\r\n", "", 24),
    ("authorization", Text, r#"{"Authorization":"Bearer {}"}"#, "", 24),
    ("authorization", Text, "Authorization: {}", "", 24),
    ("cookie", Text, "GET / HTTP/1.1\r\nCookie: a=1; sid={}; b=2\r\n", "", 24),
    ("cookie", Text, "HTTP/1.1 200 OK\r\nSet-Cookie: sid={}; Path=/; HttpOnly\r\n", "", 24),
    ("cookie", Argv, "curl | -H | Cookie: sid={} | http://h", "", 24),
    ("signature", Text, "https://x.blob.core.windows.net/c?sv=2022&sig={}&se=1", "", 40),
    ("signature", Text, "https://b.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature={}", "", 64),
    ("url-password", Environ, "DATABASE_URL=postgres://shop:{}@db:5432/shop", "", 9),
    ("url-password", Argv, "psql | postgresql://shop:{}@db/shop?sslmode=disable", "", 9),
    ("url-password", Text, "redis://:{}@cache:6379/0", "", 9),
    ("url-password", Text, "git clone https://{}@git.example/x.git", "a1", 30),
    ("url-password", Text, "mongodb+srv://u:{}@host/db", "pa/", 9),
    ("program-option", Argv, "mysql | -uroot | -p{} | shop", "", 9),
    ("program-option", Argv, "sudo | /usr/bin/mysqldump | -p{} | shop", "", 9),
    ("program-option", Argv, "sshpass | -p | {} | ssh | u@h", "", 9),
    ("program-option", Argv, "sshpass | -p{} | ssh | -p | 2222 | u@h", "", 9),
    ("program-option", Argv, "redis-cli | -h | h | -a | {} | PING", "", 9),
    ("program-option", Argv, "curl | -u | user:{} | https://h", "", 9),
    ("program-option", Argv, "curl | -sSu | user:{} | https://h", "", 9),
    ("program-option", Argv, "curl | --user | user:{} | https://h", "", 9),
    ("program-option", Argv, "openssl | rsa | -passin | pass:{} | -in | k", "", 9),
    ("program-option", Argv, "htpasswd | -bc | /etc/htpasswd | admin | {}", "", 9),
    ("program-option", Argv, "htpasswd | -nb | admin | {}", "", 9),
    ("program-option", Argv, "docker | login | -u | me | -p | {} | registry", "", 9),
    ("program-option", Argv, "mongosh | -u | me | -p | {}", "", 9),
    ("program-option", Argv, "ldapsearch | -D | cn=x | -w | {}", "", 9),
    ("program-option", Argv, "smbclient | //h/s | -U | dom/user%{}", "", 9),
    ("program-option", Argv, "sh | -c | mysql -uroot -p{} shop", "", 9),
    ("program-option", Text, "mysql -uroot -p{} shop", "", 9),
    ("program-option", Text, "Query | container=x command=mysql -p{} user=root", "", 9),
    ("program-option", Text, "sh -c \"mysql -p'{}' shop\"", "", 9),
    ("program-option", Text, "curl -s -u 'user:{}' https://h", "", 9),
    ("program-option", Text, "cd /x && sshpass -p {} ssh u@h", "", 9),
    ("cookie", Argv, "curl | -b | sid={} | http://h", "", 24),
    ("sql-password", Text, "CREATE USER x IDENTIFIED BY '{}'", "", 12),
    ("sql-password", Argv, "psql | -c | ALTER ROLE x PASSWORD '{}'", "", 12),
    ("private-key", Text, concat!("-----BEGIN RSA PRIVATE", " KEY-----\n{}\n-----END RSA PRIVATE KEY-----"), "MII", 60),
    ("private-key", Text, concat!("-----BEGIN OPENSSH PRIVATE", " KEY-----\n{}"), "b3B", 60),
    ("jwt", Text, "got {} from u", concat!("ey", "J0eXAiOiJK.eyJzdWIiOi."), 43),
    ("aws", Text, "key {}, region x", concat!("AK", "IAQQQQQQQQQQQQQQQQ"), 0),
    ("alibaba", Text, "id {}", concat!("LT", "AI"), 20),
    ("tencent", Text, "id {}", concat!("AK", "ID"), 32),
    ("google", Text, "maps?key={}", concat!("AI", "za"), 35),
    ("google", Text, "oauth {}", concat!("ya", "29."), 60),
    ("github", Text, "git clone https://x:y@h {}", concat!("gh", "p_"), 36),
    ("github", Text, "auth {}", concat!("github", "_pat_"), 60),
    ("gitlab", Text, "glab auth {}", concat!("gl", "pat-"), 20),
    ("slack", Text, "slack {}", concat!("xo", "xb-1234567890-"), 24),
    ("slack", Text, "slack {}", concat!("xa", "pp-1-A0-"), 24),
    ("webhook", Text, "curl https://hooks.slack.com/services/{}", "T0/B0/", 24),
    ("webhook", Text, "https://discord.com/api/webhooks/123456789012345678/{}", "", 68),
    ("webhook", Text, "https://open.feishu.cn/open-apis/bot/v2/hook/{}", "", 36),
    ("webhook", Text, "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={}", "", 36),
    ("telegram", Text, "https://api.telegram.org/bot{}/sendMessage", concat!("123456789", ":AA"), 33),
    ("stripe", Text, "charge with {}", concat!("sk", "_live_"), 24),
    ("stripe", Text, "charge with {}", concat!("rk", "_live_"), 24),
    ("npm", Text, "//registry.npmjs.org/ {}", concat!("np", "m_"), 36),
    ("pypi", Text, "twine {}", concat!("py", "pi-"), 80),
    ("docker-hub", Text, "login {}", concat!("dckr", "_pat_"), 27),
    ("ai-key", Text, "llm {}", concat!("sk", "-ant-"), 60),
    ("ai-key", Text, "llm {}", concat!("sk", "-"), 48),
    ("vault", Text, "vault {}", concat!("hv", "s."), 24),
    ("provider", Text, "sendgrid {}", concat!("S", "G.aaaaaaaaaaaaaaaaaaaaaa."), 43),
];

/// A template with its secret in the place, redacted; what was in blocks comes back with ` | `.
pub fn redact(place: Place, template: &str, secret: &str) -> String {
    let redactor = redactor();
    let text = template.replace("{}", secret);
    let block = || text.replace(" | ", "\0") + "\0";
    let new = match place {
        Text => return redactor.text(&text).into_owned(),
        Argv => redactor.argv(block().as_bytes()).into_owned(),
        Environ => redactor.environ(block().as_bytes()).into_owned(),
    };
    String::from_utf8(new).unwrap().trim_end_matches('\0').replace('\0', " | ")
}

#[test]
fn secrets_are_taken_out_and_nothing_else() {
    let mut wrong = Vec::new();
    for (name, place, template, start, len) in CASES {
        let secret = start.to_string() + &"a7Kq9ZtR4mB".repeat(10)[..*len];
        let want = template.replace("{}", &format!("[redacted:{name}:{}]", digest(&secret)));
        let got = redact(*place, template, &secret);
        if got != want {
            wrong.push(format!("{place:?}: {template}\n  got  {got}\n  want {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_pattern_has_a_secret_and_a_peaceful_text() {
    for pattern in PATTERNS {
        assert!(CASES.iter().any(|case| case.0 == pattern.name), "no secret for {}", pattern.name);
        assert!(super::peace::NEAR.iter().any(|near| near.0 == pattern.name), "no peaceful text for {}", pattern.name);
    }
}

#[test]
fn several_secrets_in_one_text_are_all_taken_out() {
    let text =
        "mysql -pfirst-Secret1 -h db; curl -u u:second-Secret2 'https://x:third-Secret3@h/?token=fourth-Secret4'";
    let new = redactor().text(text).into_owned();
    assert_eq!(marks(&new).len(), 4, "{new}");
    assert!(!new.contains("Secret"), "{new}");
}

#[test]
fn the_same_secret_has_the_same_digest_wherever_it_is() {
    let digest = digest("p@ss w0rd");
    for (place, text) in [
        (Environ, "DB_PASSWORD=p@ss w0rd"),
        (Environ, "DB_PASSWORD=\"p@ss w0rd\""),
        (Argv, "mysql | -pp@ss w0rd"),
        (Argv, "app | --password | p@ss w0rd"),
        (Argv, "app | --password | 'p@ss w0rd'"),
        (Argv, "curl | -u | me:p@ss w0rd | http://h"),
        (Text, "curl -u 'me:p@ss w0rd' http://h"),
        (Text, "{\"password\": \"p@ss w0rd\"}"),
        (Text, "postgres://me:p%40ss%20w0rd@db/x"),
        (Text, "GET /?password=p%40ss%20w0rd HTTP/1.1"),
        (Text, "Authorization: Basic bWU6cEBzcyB3MHJk\r\n"),
    ] {
        let new = redact(place, text, "");
        assert_eq!(marks(&new).iter().map(|(_, digest)| digest).collect::<Vec<_>>(), [&digest], "{text} -> {new}");
    }
    let other = tw_report::redact::Redactor::new([8; 32]).text("password=p@ssw0rd").into_owned();
    assert_ne!(other, redactor().text("password=p@ssw0rd"), "another salt, another digest");
}

#[test]
fn a_known_salt_gives_the_hmac_of_the_secret() {
    // printf hunter2 | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07 (32 bytes)
    assert_eq!(digest("hunter2"), "326eb4f6783e");
}
