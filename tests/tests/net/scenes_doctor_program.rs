//! Scenes: the remedies of `doctor` remove foreign programs; and every kind of remedy is tested.
use std::ffi::OsString;
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};
use dns_xdp::doctor::Kind;
use dns_xdp_tests::bed::cluster::stage;
use dns_xdp_tests::bed::doctor::{cure, cure_in};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::programs::TESTBED;

const SCENES: [&str; 2] = [include_str!("scenes_doctor.rs"), include_str!("scenes_doctor_program.rs")];

/// The proof that a kind of remedy works.
enum Proof {
    /// A scene applies it.
    Scene(&'static str),
    /// No scene can apply it, for this reason.
    Excused(&'static str),
}

/// A missing kind does not compile.
fn proof(kind: Kind) -> Proof {
    use Proof::{Excused, Scene};
    match kind {
        Kind::InstallKernel => {
            Excused("it takes another kernel; cargo xtask test kernels boots those that suffice")
        }
        Kind::TryKernel => Excused("this kernel is not newer than the newest that is tested"),
        Kind::InstallBtf => Excused("it takes another kernel"),
        Kind::MountBpffs => Scene("doctor_mounts_the_bpf_filesystem"),
        Kind::BeRoot => Excused("sudo is the operator's, and asks for a password"),
        Kind::LockMemory => Excused("it takes a kernel before 5.11, and changes the machine's units"),
        Kind::SetClock => Excused("it changes the machine's clock"),
        Kind::CorrectFile => Excused("what the file is to say only its author knows"),
        Kind::SetInterfaces => Scene("doctor_corrects_the_interfaces_of_the_configuration"),
        Kind::SetMode => Scene("doctor_changes_the_mode_where_native_xdp_cannot_be_had"),
        Kind::SwitchOn => Scene("doctor_switches_interfaces_on"),
        Kind::RemoveProgram => Scene("a_program_that_netlink_attached_leaves"),
        Kind::DetachLink => Scene("a_program_on_a_link_leaves_by_bpftool"),
        Kind::ReleaseLink => Scene("a_program_on_a_link_leaves_without_bpftool"),
        Kind::EndOther => Scene("another_dns_xdp_takes_its_program_with_it"),
        Kind::InstallBpftool => Excused("it takes a link that no process and no usual file holds"),
        Kind::LowerMtu => {
            Excused("every driver in a namespace takes fragmented frames or has no known limit")
        }
        Kind::SetQueues => Excused("it takes a card: no driver in a namespace has combined queues"),
        Kind::SetVethQueues => Scene("doctor_gives_a_veth_the_queues_that_native_xdp_takes"),
        Kind::ShortenRing => Excused("it takes a card: no driver in a namespace has a ring"),
        Kind::KeepTags => Excused("it takes a card, and VLANs, which this kernel may lack"),
        Kind::AddAddress | Kind::RemoveAddress => Scene("doctor_adds_and_removes_addresses"),
        Kind::AddNode => Scene("doctor_adds_the_machine_as_a_node"),
        Kind::StopUnit | Kind::StopStubListener | Kind::StartUnit => {
            Excused("it takes a service manager, and changes the machine's services")
        }
        Kind::EndHolder => Scene("doctor_ends_what_holds_the_port"),
        Kind::FindHolder => Excused("it takes a process of another process namespace, which root finds"),
        Kind::OpenFilter => Excused("the rules are the operator's"),
        Kind::StartDaemon => Scene("doctor_starts_the_daemon"),
        Kind::ReadLog => Excused("what the log says is to be read"),
    }
}

#[test]
fn every_kind_of_remedy_is_typed_in_a_scene_or_excused() {
    for kind in Kind::ALL {
        match proof(kind) {
            Proof::Scene(name) => {
                let scene = format!("fn {name}() {{");
                assert!(
                    SCENES.iter().any(|file| file.contains(&scene)),
                    "{kind:?}: there is no scene {name}"
                );
            }
            Proof::Excused(reason) => assert!(reason.len() > 10, "{kind:?}"),
        }
    }
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_program_that_netlink_attached_leaves() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        let pin = node.pins.with_file_name("foreign");
        let mut object = object()?;
        pass(&mut object)?.pin(&pin)?;
        for (attach, remedy) in [("xdpdrv", "xdpdrv off"), ("xdpgeneric", "xdpgeneric off")] {
            let mut command = Command::new("ip");
            command.args(["link", "set", "dev", "eth0", attach, "pinned"]).arg(&pin);
            node.namespace.succeed(&mut command)?;
            assert_eq!(cure(node, "eth0 program")?, format!("ip link set dev eth0 {remedy}"));
        }
        Ok(fs::remove_file(pin)?)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_program_on_a_link_leaves_by_bpftool() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        let mut object = object()?;
        for mode in [XdpMode::Driver, XdpMode::Skb] {
            let link = attach(node, &mut object, mode)?;
            let remedy = cure(node, "eth0 program")?;
            assert_eq!(remedy, format!("bpftool link detach id {}", link.info()?.id()));
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_program_on_a_link_leaves_without_bpftool() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        let tools = tempfile::tempdir()?;
        let path = only(tools.path(), &["sh", "rm", "ip"])?;
        let mut object = object()?;
        let pin = node.pins.with_file_name("foreign");

        drop(attach(node, &mut object, XdpMode::Driver)?.pin(&pin)?);
        assert_eq!(cure_in(node, "eth0 program", &path)?, format!("rm {}", pin.display()));

        let link = attach(node, &mut object, XdpMode::Driver)?;
        let mut holder = hold(node, link)?;
        let cured = cure_in(node, "eth0 program", &path);
        holder.kill()?;
        holder.wait()?;
        assert_eq!(cured?, format!("kill {}", holder.id()));

        let link = attach(node, &mut object, XdpMode::Driver)?;
        let (id, descriptor) = descriptor(&link)?;
        drop(link.pin(&pin)?);
        let mut holder = sleeper(node, descriptor)?;
        let cured = cure_in(node, "eth0 program", &path);
        holder.kill()?;
        holder.wait()?;
        assert_eq!(cured?, format!("rm {}; kill {}", pin.display(), holder.id()), "link {id}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn another_dns_xdp_takes_its_program_with_it() {
    stage(&Plan::quick(1), |cluster| {
        cluster.start()?;
        let node = &mut cluster.nodes[0];
        let other = node.daemon()?;
        let (config, second) = (node.config.clone(), node.config.with_file_name("second.toml"));
        let text = node.config_text()?.replace("/node1.", "/second.").replace("/node1\"", "/second\"");
        fs::write(&second, text)?;
        node.config = second;
        let cured = cure(node, "eth0 program");
        node.config = config;
        assert_eq!(cured?, format!("kill -INT {other}"));
        ensure!(!node.has_xdp()?, "the program is there yet");
        Ok(())
    });
}

fn object() -> Result<Ebpf> {
    let mut object = Ebpf::load(TESTBED)?;
    pass(&mut object)?.load()?;
    Ok(object)
}

fn pass(object: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(object.program_mut("pass").context("the test bed has no program `pass`")?.try_into()?)
}

fn attach(node: &Node, object: &mut Ebpf, mode: XdpMode) -> Result<FdLink> {
    node.namespace.enter(|| {
        let program = pass(object)?;
        let id = program.attach("eth0", mode)?;
        let link: XdpLink = program.take_link(id)?;
        Ok(link.try_into()?)
    })
}

/// Passes a link to another process, which then is its only holder.
fn hold(node: &Node, link: FdLink) -> Result<Child> {
    let (_, descriptor) = descriptor(&link)?;
    drop(link);
    sleeper(node, descriptor)
}

fn sleeper(node: &Node, descriptor: OwnedFd) -> Result<Child> {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::from(descriptor)).stdout(Stdio::null()).stderr(Stdio::null());
    node.namespace.spawn(&mut command)
}

/// A link's number and a descriptor of it, which aya does not provide.
fn descriptor(link: &FdLink) -> Result<(u32, OwnedFd)> {
    let id = link.info()?.id();
    let wanted = format!("link_id:\t{id}");
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        if !info.lines().any(|line| line == wanted) {
            continue;
        }
        let number: i32 = entry.file_name().to_string_lossy().parse()?;
        #[expect(unsafe_code, reason = "aya does not lend the descriptor of a link")]
        // SAFETY: the descriptor is open, because the link that owns it is borrowed.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        return Ok((id, borrowed.try_clone_to_owned()?));
    }
    anyhow::bail!("no descriptor of link {id}")
}

/// A PATH with only these programs.
fn only(directory: &Path, programs: &[&str]) -> Result<OsString> {
    for program in programs {
        let found = process::succeed(Command::new("which").arg(program), "")?;
        symlink(found.trim(), directory.join(program))?;
    }
    Ok(directory.as_os_str().to_owned())
}
