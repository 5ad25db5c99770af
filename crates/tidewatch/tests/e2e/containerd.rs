//! A containerd of the tests' own: its folders, its socket, its images; with the plugin for Kubernetes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::docker::docker;
use crate::{image, lab};

/// How long containerd may take to answer.
const START: Duration = Duration::from_secs(20);
/// Stops what is left of it when its input ends, which happens however this process ends: the harness drops no statics.
/// Shims and containers outlive containerd, so they are ended first, by asking it.
const KEEPER: &str = r#"
trap '' HUP INT TERM
containerd --config "$1/config.toml" >"$1/log" 2>&1 </dev/null & own=$!
cat >/dev/null
for namespace in default k8s.io; do
  ask() { ctr --address "$dir/containerd.sock" --namespace $namespace "$@" 2>/dev/null; }
  dir=$1
  ask tasks ls -q | while read -r id; do ask tasks kill -s KILL "$id"; ask tasks rm -f "$id"; done
  ask containers ls -q | while read -r id; do ask containers rm "$id"; done
done
kill -TERM $own; wait $own
grep -F " $1/" /proc/mounts | cut -d' ' -f2 | sort -r | xargs -r -n1 umount -l
rm -rf "$1"
"#;

const CONFIG: &str = r#"
version = 2
root = "DIR/root"
state = "DIR/state"
[grpc]
  address = "DIR/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"#;

/// A containerd that runs.
pub struct Containerd {
    dir: PathBuf,
    /// Image in containerd's words.
    image: String,
    _keeper: Child,
}

/// The one that the tests share; none, with the reason said, where there is no containerd.
pub fn shared() -> Option<&'static Containerd> {
    static OWN: OnceLock<Option<Containerd>> = OnceLock::new();
    if !lab::ready() {
        return None;
    }
    OWN.get_or_init(|| {
        let there = ["containerd", "ctr"].iter().all(|program| {
            Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        });
        if there {
            Some(Containerd::start())
        } else {
            lab::skip("containerd and ctr are missing: apt-get install containerd");
            None
        }
    })
    .as_ref()
}

impl Containerd {
    fn start() -> Self {
        let dir = std::env::temp_dir().join(lab::unique("containerd"));
        std::fs::create_dir_all(dir.join("cni")).expect("the directory for temporary files is writable");
        let name = image::base();
        let image = format!("docker.io/library/{name}:latest");
        let config = CONFIG.replace("DIR", &dir.to_string_lossy()).replace("PAUSE", &image);
        std::fs::write(dir.join("config.toml"), config).expect("the directory is ours");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sh is there");
        let own = Self { dir, image, _keeper: keeper };
        let started = Instant::now();
        while !own.output("default", &["version"]).status.success() {
            assert!(started.elapsed() < START, "{}", std::fs::read_to_string(own.dir.join("log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
        let tar = own.dir.join("image.tar");
        docker(&["save", name, "-o", &tar.to_string_lossy()]);
        for namespace in ["default", "k8s.io"] {
            own.ctr(namespace, &["images", "import", "--snapshotter", "native", &tar.to_string_lossy()]);
        }
        own
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// The folder of its bundles.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The image that it has, in its words.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The same without its tag.
    pub fn repository(&self) -> &str {
        self.image.strip_suffix(":latest").unwrap_or(&self.image)
    }

    /// Runs `ctr`; panics with its complaint if it fails.
    pub fn ctr(&self, namespace: &str, words: &[&str]) {
        let output = self.output(namespace, words);
        assert!(output.status.success(), "ctr {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a container that ends by itself, and goes then.
    pub fn run(&self, name: &str, command: &[&str]) {
        let start = ["run", "--rm", "--snapshotter", "native", &self.image, name];
        self.ctr("default", &[&start, command].concat());
    }

    fn output(&self, namespace: &str, words: &[&str]) -> std::process::Output {
        Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", namespace])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("ctr is there")
    }

    /// The options of an agent that watches this containerd.
    pub fn options(&self) -> Vec<String> {
        let folders = |path: &Path| format!("{:?}", [path, Path::new("/run/runc"), Path::new("/var/lib/docker")]);
        vec![
            "--set".into(),
            format!("runtimes.containerd={}", self.socket().display()),
            "--set".into(),
            format!("runtimes.folders={}", folders(&self.state())),
        ]
    }
}
