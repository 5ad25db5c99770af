//! What stays: near misses of each pattern, and what operators type all day.

use super::redactor;

/// For each pattern texts that look a little like it.
pub const NEAR: &[(&str, &[&str])] = &[
    (
        "password",
        &[
            "passwd root",
            "grep password file",
            "grep -r password: /etc",
            "app --password-file /run/secrets/db",
            "--no-password",
            "MYSQL_ROOT_PASSWORD_FILE=/run/secrets/x",
            "password=$DB_PASSWORD x",
            "password=${DB_PASSWORD:-}",
            "password=%s",
            "password=***",
            "password=********",
            "password=",
            "password=''",
            "password=true",
            "Password: required",
            "PASSWORD= psql",
            "PWD=/home/x OLDPWD=/",
            "tests pass: 1200 fail: 3",
            "bypass=always",
            "compass=north",
            "docker login --password-stdin",
            "psql --no-password -h db",
            "password=\"$DB_PASS\"",
            "password={{ .Values.db }}",
            "password=<password>",
            "SUDO_ASKPASS=/usr/bin/askpass",
            "pass the salt",
            "PASSWORD_STORE_DIR=/srv/x",
            "systemd-ask-password --echo",
            "proc.args contains \"password=\"",
            "passwd: password updated successfully",
        ],
    ),
    (
        "secret",
        &[
            "docker build --secret id=npm,src=/x .",
            "kubectl get secret db",
            "secret: none",
            "secret=/run/secrets/db",
            "SECRET_NAME=shop-db",
            "the secret is out",
            "kubectl create secret generic db",
        ],
    ),
    (
        "token",
        &[
            "train --tokenizer x-large-v2",
            "TOKENIZERS_PARALLELISM=false",
            "max_token=4096",
            "unexpected token: identifier",
            "token_type=bearer",
            "ls /var/run/secrets/kubernetes.io/serviceaccount/token",
            "registry/auth-token:1.4.2",
            "acme/token:latest",
            "--token-file /etc/token",
            "kubectl create token default",
            "num_tokens=123456",
        ],
    ),
    (
        "key",
        &[
            "setxkbmap keyboard=us",
            "ansible --private-key ~/.ssh/id_rsa",
            "ansible --private-key id_rsa",
            "key=value1234",
            "ssl_private_key=/etc/ssl/x.pem",
            "monkey=banana42",
            "public_key=abcdefghijklmnop",
            "hotkey: ctrl-alt-del",
            "AWS_ACCESS_KEY_ID_FILE=/x",
            "apt-key list",
            "primary_key=customer_id",
        ],
    ),
    (
        "authorization",
        &[
            "authorization: denied",
            "authorization failed for user",
            "Authorization: Bearer $TOKEN",
            "authorization=none",
        ],
    ),
    (
        "cookie",
        &[
            "cookie jar: full",
            "Cookie: a=1; b=2",
            "curl -b cookies.txt http://h",
            "Set-Cookie: a=1; Path=/shop; Max-Age=3600",
        ],
    ),
    (
        "signature",
        &[
            "https://h/a?design=modern12",
            "https://h/a?sig=1",
            "sig=15 name=TERM",
            "kill --signal=SIGTERM 1",
            "signature: verified",
        ],
    ),
    (
        "url-password",
        &[
            "https://github.com/a/b",
            "ssh://git@github.com/a/b",
            "postgres://shop@db/shop",
            "http://[::1]:8080/a@b",
            "http://h:8080/a:b@c",
            "https://registry.npmjs.org/@scope/pkg",
            "redis://u:$PASS@h",
            "https://u:***@h/",
            "docker://alpine:3.20@sha256",
            "http://user:<password>@h/",
        ],
    ),
    (
        "program-option",
        &[
            "ls -p /tmp",
            "mkdir -p x",
            "mkdir -p /srv/longname",
            "docker run -p 80:80 nginx",
            "docker run -p 8080:8080 mysql",
            "ssh -p 2222 u@h",
            "mysql -P 3306 -h db -p",
            "mysql -uroot -p shop",
            "curl -u user http://h",
            "curl -U user: http://h",
            "curl -fsSL https://h/install.sh",
            "apt install mysql-server -y",
            "openssl rsa -passin file:/etc/pass -in k",
            "openssl rsa -passin env:PASSWORD1",
            "redis-cli -h host ping",
            "container=mysql command=find / -perm 7777",
            "htpasswd -c /etc/htpasswd admin",
            "cat mysql; cut -path",
            "mysql x | grep -permanent",
            "ps -aux -pidfile",
            "sshpass -f /root/file ssh h",
            "docker ps -p longvalue",
            "7z x archive.7z",
            "zip -r out.zip folder",
        ],
    ),
    ("sql-password", &["IDENTIFIED BY RANDOM PASSWORD", "the password 'is' wrong", "PASSWORD NULL"]),
    (
        "private-key",
        &["-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG", "-----BEGIN CERTIFICATE-----\nMIID", "PRIVATE KEY expected"],
    ),
    ("jwt", &["eyJ", "eyJhbGciOi.x", "keyJournal.abcdefgh.abcdefgh1"]),
    ("aws", &["AKIA", "AKIAIOSFODNN", "MAKIAIOSFODNN7AAAAAAA", "asia-northeast1-docker"]),
    ("alibaba", &["LTAI", "VOLTAIREVOLTAIREVOLTAIRE"]),
    ("tencent", &["AKID", "MAKIDSHAPPYANDMOREWORDS"]),
    ("google", &["AIza", "Maiza", "ya29.", "GOCSPX"]),
    ("github", &["ghp_", "ghs_short", "github_path_is_this", "highghp"]),
    ("gitlab", &["glpat-", "glpat-x", "gldt-1"]),
    ("slack", &["xoxb-", "xox", "xapp-x", "boxox-1"]),
    ("webhook", &["https://hooks.slack.com/", "https://h/api/webhooks/list", "/webhook/send?x=1"]),
    ("telegram", &["12:34:AA", "1234567890:AB", "time 10:AA"]),
    ("stripe", &["sk_live_", "task_live_abcdefghijklmnopqrst", "disk_test_1"]),
    ("npm", &["npm_config_user_agent=npm/10.2.4", "npm_lifecycle_event=build", "npm_package_json=/app/package.json"]),
    ("pypi", &["pypi-server", "https://pypi.org/simple"]),
    ("docker-hub", &["dckr_", "SWMTKN-1-short"]),
    ("ai-key", &["sk-learn", "task-abcdefghijklmnopqrstuvwxyz0123456789", "hf_transfer=1", "disk-by-id"]),
    ("vault", &["hvs.", "hvs.short", "x.atlasv1.y"]),
    ("provider", &["dapi", "MSG.1234567890123456.abc", "dop_v1_", "tskey-x", "glc_"]),
];

const LIFE: &[&str] = &[
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SSH_AUTH_SOCK=/tmp/ssh-XXXXXX/agent.1234",
    "LS_COLORS=rs=0:di=01;34:ln=01;36:mh=00:pi=40;33",
    "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus,guid=0123456789abcdef",
    "XAUTHORITY=/home/u/.Xauthority",
    "KUBERNETES_SERVICE_HOST=10.0.0.1",
    "runc --root /run/docker/runtime-runc/moby --log-format json exec --process /tmp/runc-process1 abc",
    "/usr/bin/containerd-shim-runc-v2 -namespace moby -id 0123456789abcdef -address /run/containerd/containerd.sock",
    "nginx -g daemon off;",
    "tar -C /data -xzpf backup.tar.gz --preserve-permissions",
    "rsync -avP --password-file=/etc/rsyncd.secrets a b",
    "git commit -m fix: handle token expiry",
    "ps aux | grep mysql",
    "find / -perm -4000 -user root",
    "cp -pr a b; chown -R mysql:mysql /var/lib/mysql",
    "gpg --batch --passphrase-fd 0 --decrypt x",
    "cat /etc/passwd /etc/shadow",
    "Sensitive file opened for reading | file=/etc/shadow process=cat command=cat /etc/shadow user=root container=shop",
    "2026-11-24T10:00:00Z INFO auth: token refreshed for user 7",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "容器 nginx 启动: 密钥 已更新",
];

#[test]
fn peaceful_texts_stay_as_they_are() {
    let redactor = redactor();
    let mut wrong = Vec::new();
    let near = NEAR.iter().flat_map(|(_, texts)| texts.iter());
    for text in near.chain(LIFE) {
        let line = redactor.text(text);
        let argv = text.replace(' ', "\0") + "\0";
        let environ = text.to_string() + "\0";
        if ["| ", "; ", "= "].iter().any(|shell| text.contains(shell)) {
            // A shell's line, which is no block.
            if line.contains("[redacted:") {
                wrong.push(format!("{text}\n  -> {line}"));
            }
            continue;
        }
        let blocks = [redactor.argv(argv.as_bytes()), redactor.environ(environ.as_bytes())];
        let blocks = blocks.map(|block| String::from_utf8_lossy(&block).replace('\0', " "));
        for new in [&*line, &blocks[0], &blocks[1]] {
            if new.contains("[redacted:") {
                wrong.push(format!("{text}\n  -> {new}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn untouched_text_is_borrowed_and_nothing_is_counted() {
    let redactor = redactor();
    assert!(matches!(redactor.text("password=$X mkdir -p x"), std::borrow::Cow::Borrowed(_)));
    assert!(matches!(redactor.argv(b"passwd\0root\0"), std::borrow::Cow::Borrowed(_)));
    assert!(matches!(redactor.environ(b"PWD=/x\0SECRET_NAME=a\0"), std::borrow::Cow::Borrowed(_)));
    assert!(redactor.counts().iter().all(|(_, count)| *count == 0));
    redactor.clone().text("password=hunter2 token=hunter2hunter");
    let counted: Vec<_> = redactor.counts().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("password", 1), ("token", 1)], "clones count together");
}
