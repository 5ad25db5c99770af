//! Servers under load are not worth a word: the built-in rules find nothing in their normal life.
//!
//! For `TIDEWATCH_QUIET_SECONDS` seconds (60 unless told) nginx and redis serve, as far as the host has them
//! (`nginx-light`, `redis-server`, `apache2-utils`); else busybox serves.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::container::Container;
use crate::daemon::default_pack;
use crate::image;
use crate::network::Network;

const NGINX: &str = "/usr/sbin/nginx";
const AB: &str = "/usr/bin/ab";
const REDIS: [&str; 3] = ["/usr/bin/redis-server", "/usr/bin/redis-benchmark", "/usr/bin/redis-cli"];

const NGINX_CONF: &str = "
user nobody nogroup;
worker_processes 2;
pid /tmp/nginx.pid;
error_log /var/log/nginx-error.log;
events { worker_connections 512; }
http {
  access_log /var/log/nginx-access.log;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 80; root /www; }
}
";

const HEALTH: [&str; 6] = [
    "--health-cmd",
    "wget -q -O /dev/null http://127.0.0.1/ || exit 1",
    "--health-interval",
    "5s",
    "--health-timeout",
    "3s",
];

#[test]
fn a_web_server_under_load_raises_nothing() {
    let Some(daemon) = default_pack() else { return };
    let network = Network::private();
    let mut options = vec!["--network", network.name.as_str()];
    options.extend(HEALTH);
    let server = if Path::new(NGINX).exists() {
        let image =
            image::with_programs(&[NGINX], &[("etc/nginx/nginx.conf", NGINX_CONF), ("www/index.html", "hello\n")]);
        Container::start(&image, &options, &[NGINX, "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"])
    } else {
        eprintln!("note: {NGINX} is missing, busybox serves instead");
        Container::start(image::base(), &options, &["httpd", "-f", "-p", "80", "-h", "/www"])
    };
    let client = web_client(&network, &format!("http://{}/", server.address()));
    live_on(&server);
    assert_quiet(daemon, &[&server, &client]);
}

fn web_client(network: &Network, url: &str) -> Container {
    let options = ["--network", network.name.as_str()];
    if Path::new(AB).exists() {
        let script = format!("while :; do ab -q -c 8 -n 2000 {url} >/dev/null; sleep 0.2; done");
        Container::start(
            &image::with_programs(&[AB], &[]),
            &options,
            &["sh", "-c", &format!("PATH=$PATH:/usr/bin; {script}")],
        )
    } else {
        let script = format!("while :; do wget -q -O /dev/null {url}; done");
        Container::start(image::base(), &options, &["sh", "-c", &script])
    }
}

#[test]
fn a_key_value_store_under_load_raises_nothing() {
    let Some(daemon) = default_pack() else { return };
    if let Some(missing) = REDIS.iter().find(|program| !Path::new(program).exists()) {
        eprintln!("note: {missing} is missing, no key-value store is tried");
        return;
    }
    let network = Network::private();
    let image = image::with_programs(&REDIS, &[("var/lib/redis/.keep", "")]);
    let options = ["--network", network.name.as_str()];
    // Saves to disk now and then, so that it forks.
    let serve = [REDIS[0], "--protected-mode", "no", "--dir", "/var/lib/redis", "--save", "5", "1"];
    let server = Container::start(&image, &options, &serve);
    let script =
        format!("while :; do {} -q -h {} -n 20000 -t set,get,incr; sleep 0.2; done", REDIS[1], server.address());
    let client = Container::start(&image, &options, &["sh", "-c", &script]);
    live_on(&server);
    assert_quiet(daemon, &[&server, &client]);
}

/// Time passes; somebody looks at a log now and then.
fn live_on(server: &Container) {
    let seconds = std::env::var("TIDEWATCH_QUIET_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    for second in 0..seconds {
        if second % 10 == 5 {
            server.exec(&["ps"]);
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn assert_quiet(daemon: &crate::daemon::Daemon, containers: &[&Container]) {
    for container in containers {
        let running = crate::docker::docker(&["inspect", "-f", "{{.State.Running}}", &container.name]);
        assert_eq!(running, "true", "{} ended early: nothing was tried", container.name);
        let alerts = daemon.alerts_about(&container.name);
        assert!(alerts.is_empty(), "{} alerts, the first: {}", alerts.len(), alerts[0]);
    }
}
