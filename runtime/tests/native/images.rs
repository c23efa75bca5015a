//! Images through documents and instances: every source and form, aliases, prefixes, in place.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use manifests::action::Verb;
use manifests::kind::Kind;
use runtime::error::Class;
use runtime::runtime::ExitStatus;
use serde_json::{Value, json};

use crate::world::{World, shell};

/// A root file system of busybox with a file that tells it from others, and archives of it in a folder.
fn archives(folder: &Path) {
    let at = folder.display();
    shell(&format!(
        "cd {at} && mkdir -p root/bin root/sbin root/etc root/srv root/proc root/sys root/dev root/tmp && \
         cp $(command -v busybox) root/bin/busybox && ln -s busybox root/bin/sh && ln -s ../bin/busybox root/sbin/init && \
         echo ours >root/etc/whose && \
         printf 'architecture: x86_64\\ncreation_date: 1700000000\\nproperties: {{os: Own}}\\n' >metadata.yaml && \
         tar -C root -cJf plain.tar.xz . && tar -C root -c . | zstd -q >plain.tar.zst && \
         mksquashfs root plain.squashfs -quiet -no-progress >/dev/null && \
         tar -czf metadata.tar.gz metadata.yaml && \
         mkdir unified && mv root unified/rootfs && cp metadata.yaml unified/ && tar -C unified -czf unified.tar.gz . && \
         mkdir bundle && cp -a unified/rootfs bundle/rootfs && \
         printf '{{\"ociVersion\":\"1.0.2\",\"process\":{{\"args\":[\"/sbin/init\"],\"cwd\":\"/srv\",\"env\":[\"A=b\"]}},\"root\":{{\"path\":\"rootfs\"}}}}' >bundle/config.json && \
         tar -C bundle -czf bundle.tar.gz ."
    ));
}

fn digest(files: &[&Path]) -> String {
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("cat {} | sha256sum", files.join(" "))])
        .output()
        .expect("sha256sum");
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

runtime::host_test! {
    fn images_of_every_form_start_and_are_found_by_alias_prefix_and_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        archives(folder.path());
        let file = |name: &str| folder.path().join(name);
        let mut world = World::new();
        let pool = world.want(Kind::StoragePool, "fast", &json!({}));
        world.perform(&pool, Verb::Create);
        let mut images = Vec::new();
        for (name, source) in [
            ("xz", json!({"file": file("plain.tar.xz"), "sha256": digest(&[&file("plain.tar.xz")])})),
            ("zst", json!({"file": file("plain.tar.zst")})),
            ("squashfs", json!({"file": file("plain.squashfs")})),
            ("split", json!({"file": file("plain.squashfs"), "metadata": file("metadata.tar.gz")})),
            ("unified", json!({"file": file("unified.tar.gz")})),
            ("bundle", json!({"file": file("bundle.tar.gz")})),
            ("folder", json!({"rootfs": file("unified/rootfs")})),
        ] {
            let image = world.want(Kind::Image, name, &json!({"source": source, "aliases": [format!("other/{name}")]}));
            world.perform(&image, Verb::Create);
            images.push(image);
        }
        let fingerprint = |world: &World, name: &str| {
            let image = images.iter().find(|image| image.name == name).expect("made");
            world.look(image).status["fingerprint"].as_str().expect("a fingerprint").to_owned()
        };
        let split = fingerprint(&world, "split");
        assert_eq!(split, digest(&[&file("metadata.tar.gz"), &file("plain.squashfs")]), "as LXD and Incus count it");
        let spec = |image: Value| json!({"image": image, "state": "Running",
            "devices": {"root": {"type": "disk", "path": "/", "pool": "fast"}}});
        for (name, image) in [
            ("a1", json!("xz")),
            ("a2", json!("other/zst")),
            ("a3", json!("squashfs")),
            ("a4", json!(format!("sha256:{}", &split[..12]))),
            ("a5", json!("unified")),
            ("a6", json!("bundle")),
            ("a7", json!("folder")),
            ("a8", json!({"source": {"file": file("plain.tar.zst")}})),
        ] {
            let one = world.want(Kind::Instance, name, &spec(image));
            world.perform(&one, Verb::Create);
            assert_eq!(world.run(&one, "busybox test \"$(busybox cat /etc/whose)\" = ours"), ExitStatus::Code(0), "{name}");
        }
        assert_eq!(world.differences(), Vec::<String>::new());
        let used = world.look(&images[3]).status["usedBy"].clone();
        assert_eq!(used, json!(["instance/a4"]));
        // An alias that is taken away by hand is seen and put back.
        let gone = world.want(Kind::Instance, "b1", &spec(json!("sha256:0123456789ab")));
        let (class, text) = world.tried(&gone, Verb::Create).expect_err("there is none");
        assert_eq!(class, Class::NeedsOperator, "{text}");
    }
}

/// Answers each request with one file's bytes.
fn serve(address: &str, files: Vec<Vec<u8>>) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind((address, 0)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let serving = std::thread::spawn(move || {
        for body in files {
            let (mut stream, _) = listener.accept().expect("a request");
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).expect("read");
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            // A client that has seen enough may have left.
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&body));
        }
    });
    (port, serving)
}

runtime::host_test! {
    fn images_come_from_urls_with_a_pinned_digest_and_never_from_this_host() {
        let folder = tempfile::tempdir().expect("a folder");
        archives(folder.path());
        let bytes = |name: &str| std::fs::read(folder.path().join(name)).expect(name);
        // An address of the public Internet, in a network namespace that has no way out.
        shell("ip address add 9.9.9.9/32 dev lo");
        let (port, serving) = serve("9.9.9.9", vec![
            bytes("plain.tar.xz"), bytes("metadata.tar.gz"), bytes("plain.squashfs"), bytes("plain.tar.xz"),
        ]);
        let url = |name: &str| format!("http://9.9.9.9:{port}/{name}");
        let plain = digest(&[&folder.path().join("plain.tar.xz")]);
        let both = digest(&[&folder.path().join("metadata.tar.gz"), &folder.path().join("plain.squashfs")]);
        let mut world = World::new();
        let one = world.want(Kind::Image, "one", &json!({"source": {"url": url("plain.tar.xz"), "sha256": plain}}));
        world.perform(&one, Verb::Create);
        let two = world.want(Kind::Image, "two", &json!({"source": {
            "url": url("plain.squashfs"), "metadata": url("metadata.tar.gz"), "sha256": both}}));
        world.perform(&two, Verb::Create);
        assert_eq!(world.differences(), Vec::<String>::new());
        for (source, class, words) in [
            (json!({"url": url("x"), "sha256": "0".repeat(64)}), Class::NeedsOperator, "wanted is 000"),
            (json!({"url": url("x")}), Class::NeedsOperator, "needs its sha256"),
            (json!({"url": "http://127.0.0.1:1/x", "sha256": "1".repeat(64)}), Class::Refused, "not on the public Internet"),
            (json!({"url": "http://169.254.169.254/x", "sha256": "1".repeat(64)}), Class::Refused, "not on the public Internet"),
            (json!({"file": "missing.tar.xz"}), Class::NeedsOperator, "No such file"),
            (json!({"oci": "docker.io/library/nginx:1.27"}), Class::Unsupported, "not fetched"),
        ] {
            let bad = world.want(Kind::Image, "bad", &json!({"source": source}));
            let (found, text) = world.tried(&bad, Verb::Create).expect_err("refused");
            assert!(found == class && text.contains(words), "{found:?} {text}");
        }
        serving.join().expect("served");
    }
}
