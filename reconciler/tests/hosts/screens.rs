//! The screens of machines, as a VNC viewer sees them (RFC 6143).

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use crate::guest::PATIENCE;
use crate::machines::{machine, world};
use crate::world::ended;

/// A viewer that has shaken hands.
struct Viewer {
    stream: UnixStream,
    width: u16,
    height: u16,
}

impl Viewer {
    fn at(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).expect("somebody listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let mut version = [0; 12];
        stream.read_exact(&mut version).expect("a version");
        assert_eq!(&version, b"RFB 003.008\n");
        stream.write_all(&version).expect("told");
        let mut count = [0];
        stream.read_exact(&mut count).expect("kinds of security");
        let mut kinds = vec![0; count[0].into()];
        stream.read_exact(&mut kinds).expect("kinds of security");
        assert_eq!(kinds, [1], "none: the socket's mode is the security");
        stream.write_all(&[1]).expect("told");
        let mut result = [1; 4];
        stream.read_exact(&mut result).expect("a result");
        assert_eq!(result, [0; 4]);
        // Others may look, too.
        stream.write_all(&[1]).expect("told");
        let mut told = [0; 24];
        stream.read_exact(&mut told).expect("a size");
        let mut name =
            vec![0; u32::from_be_bytes([told[20], told[21], told[22], told[23]]) as usize];
        stream.read_exact(&mut name).expect("a name");
        assert!(String::from_utf8_lossy(&name).contains("vm"), "{name:?}");
        // Raw pixels, and the size of the screen as it changes.
        stream
            .write_all(&[2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21])
            .expect("told");
        Self {
            stream,
            width: u16::from_be_bytes([told[0], told[1]]),
            height: u16::from_be_bytes([told[2], told[3]]),
        }
    }

    /// The pixels of the whole screen that came with the next answer.
    fn pixels(&mut self) -> Vec<u8> {
        let [w, h] = [self.width.to_be_bytes(), self.height.to_be_bytes()];
        self.stream
            .write_all(&[3, 0, 0, 0, 0, 0, w[0], w[1], h[0], h[1]])
            .expect("asked");
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).expect("an answer");
        assert_eq!(head[0], 0, "an update");
        let mut pixels = Vec::new();
        for _ in 0..u16::from_be_bytes([head[2], head[3]]) {
            let mut about = [0; 12];
            self.stream.read_exact(&mut about).expect("a part");
            let [width, height] =
                [[about[4], about[5]], [about[6], about[7]]].map(u16::from_be_bytes);
            if about[8..] == [0; 4] {
                let mut part = vec![0; usize::from(width) * usize::from(height) * 4];
                self.stream.read_exact(&mut part).expect("pixels");
                pixels.extend(part);
            } else {
                (self.width, self.height) = (width, height);
            }
        }
        pixels
    }
}

runtime::own_processes_test! {
    fn a_viewer_sees_the_screen_of_a_machine_that_its_firmware_writes_on() {
        let world = world("initrd");
        let text = machine("vm", "256MiB", "").replace("  image: tiny\n", "").replace("boot: {", "boot: { mode: bios,");
        world.write("vm.yaml", &text);
        world.write("direct.yaml", &machine("direct", "128MiB", ""));
        world.converge();
        let socket = world.path().join("screen");
        let path = socket.to_str().expect("UTF-8");
        let mut keel = world.begin(&["console", "vm", "--type", "vga", "--socket", path]);
        let began = Instant::now();
        while !socket.exists() {
            assert!(began.elapsed() < PATIENCE, "a socket");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // Nobody else may even connect.
        let seen = socket.symlink_metadata().expect("there");
        assert_eq!((seen.permissions().mode() & 0o777, seen.uid()), (0o600, 0));
        world.keel(&["console", "vm", "--type", "vga", "--socket", path]).with(4).saying("somebody listens there already");
        let (mut one, mut two) = (Viewer::at(&socket), Viewer::at(&socket));
        assert!(one.width >= 320 && one.height >= 200, "{}x{}", one.width, one.height);
        let written = |viewer: &mut Viewer| {
            let began = Instant::now();
            loop {
                let pixels = viewer.pixels();
                let (first, others) = pixels.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
                if others.chunks(4).any(|pixel| pixel != first) {
                    return;
                }
                assert!(began.elapsed() < PATIENCE, "the firmware writes");
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        };
        written(&mut one);
        written(&mut two);
        world.nothing_to_do();
        // Who leaves in an orderly way leaves no socket; viewers that are there stay.
        let interrupt = rustix::process::Pid::from_raw(i32::try_from(keel.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(interrupt, rustix::process::Signal::INT).expect("told");
        assert_eq!(keel.wait().expect("gone").code(), Some(0));
        assert!(!socket.exists());
        written(&mut one);
        // What is no socket is not taken away.
        manifests::path_io::write(&socket, "mine").expect("a file");
        world.keel(&["console", "vm", "--type", "vga", "--socket", path]).with(4).saying("there is a file of that name");
        manifests::path_io::remove_file(&socket).expect("removed");
        ended(&mut world.command(&["console", "direct", "--type", "vga"])).with(3).saying("it boots a kernel directly");
        world.destroy();
    }
}
