//! Plans, their carrying out below a folder of the test's own, and the way back.

use super::disk::Disk;
use super::{Foreign, Found, Plan, Record, Way, plan, plan_back};
use crate::deploy::{Act, Base, Deployment, Made};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn deployment(files: &[(&str, &str, Way)]) -> Deployment {
    let made =
        |(path, text, way): &(&str, &str, Way)| Made { way: *way, ..Made::new(*path, (*text).to_owned()) };
    let mut deployment = Deployment::new("test", Base::System, files.iter().map(made).collect());
    deployment.after_undo = vec![Act::of("true")];
    deployment
}

/// A machine: every file and folder below it, with its mode.
fn picture(root: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, u32)> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.symlink_metadata().unwrap().permissions().mode();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.clone(), (fs::read(&path).ok(), mode));
        }
    }
    found
}

fn machine() -> (TempDir, Disk) {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("etc/there")).unwrap();
    fs::write(dir.path().join("etc/there/own"), "before\n").unwrap();
    fs::set_permissions(dir.path().join("etc/there/own"), Permissions::from_mode(0o640)).unwrap();
    fs::write(dir.path().join("etc/there/shared"), b"first\n\xff no line break").unwrap();
    let disk = Disk::new("test", Base::System, Some(dir.path())).unwrap();
    (dir, disk)
}

fn write(disk: &Disk, deployment: &Deployment) -> Plan {
    let before = disk.record().unwrap();
    let plan = plan(deployment, &before, |path| disk.look(path)).unwrap();
    if !plan.steps.is_empty() {
        disk.carry_out(&plan, &before).unwrap();
    }
    plan
}

fn undo(disk: &Disk) -> Plan {
    let before = disk.record().unwrap();
    let plan = plan_back("test", &before, |path| disk.look(path)).unwrap();
    disk.carry_out(&plan, &before).unwrap();
    disk.forget(&before).unwrap();
    plan
}

const OWN: (&str, &str, Way) = ("/etc/there/own", "after\n", Way::Whole);
const SHARED: (&str, &str, Way) = ("/etc/there/shared", "ours\n", Way::Block);
const NEW: (&str, &str, Way) = ("/etc/new/deep/file", "new\n", Way::Whole);
const FRESH: (&str, &str, Way) = ("/etc/fresh/file", "fresh\n", Way::New);
const ALONE: (&str, &str, Way) = ("/etc/there/sole", "alone\n", Way::Sole);

#[test]
fn every_choice_of_files_is_undone_to_the_byte_and_twice_changes_nothing() {
    let every = [OWN, SHARED, NEW, ALONE, FRESH];
    for choice in 1..1 << every.len() {
        let (dir, disk) = machine();
        let before = picture(dir.path());
        let chosen: Vec<_> =
            (0..every.len()).filter(|at| choice >> at & 1 == 1).map(|at| every[at]).collect();
        let deployment = deployment(&chosen);
        assert_eq!(write(&disk, &deployment).steps.len(), chosen.len());
        let after = picture(dir.path());
        assert!(write(&disk, &deployment).steps.is_empty(), "{choice:b}");
        assert_eq!(picture(dir.path()), after, "{choice:b}");
        undo(&disk);
        // The folder of records goes with what it made; `var` is the machine's.
        let mut now = picture(dir.path());
        now.retain(|path, _| !path.starts_with(dir.path().join("var")));
        assert_eq!(now, before, "{choice:b}");
        assert!(disk.record().unwrap().is_empty());
    }
}

#[test]
fn other_settings_are_written_over_and_lead_back_to_the_very_beginning() {
    let (dir, disk) = machine();
    let before = picture(dir.path());
    write(&disk, &deployment(&[OWN, SHARED, NEW]));
    let second = deployment(&[
        ("/etc/there/own", "later\n", Way::Whole),
        ("/etc/there/shared", "ours, later\n", Way::Block),
    ]);
    let plan = write(&disk, &second);
    // The third file is not made any more.
    assert!(plan.steps.iter().any(|step| step.path == Path::new(NEW.0) && step.shall.is_none()));
    let shared = fs::read(dir.path().join("etc/there/shared")).unwrap();
    assert!(
        shared.starts_with(b"first\n\xff no line break\n# BEGIN herdgate deploy test\nours, later\n# END"),
        "{shared:?}"
    );
    undo(&disk);
    let mut now = picture(dir.path());
    now.retain(|path, _| !path.starts_with(dir.path().join("var")));
    assert_eq!(now, before);
}

#[test]
fn what_others_change_in_a_shared_file_stays_and_in_our_own_is_told() {
    let (dir, disk) = machine();
    write(&disk, &deployment(&[OWN, SHARED]));
    for name in ["own", "shared"] {
        let path = dir.path().join("etc/there").join(name);
        let text = [fs::read(&path).unwrap(), b"theirs\n".to_vec()].concat();
        fs::write(path, text).unwrap();
    }
    let plan = undo(&disk);
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
    assert!(plan.notes[0].starts_with("/etc/there/own was changed"), "{:?}", plan.notes);
    assert_eq!(
        fs::read(dir.path().join("etc/there/shared")).unwrap(),
        b"first\n\xff no line break\ntheirs\n"
    );
    assert_eq!(fs::read(dir.path().join("etc/there/own")).unwrap(), b"before\n");
}

#[test]
fn a_new_file_is_ours_until_somebody_changes_it() {
    let (dir, disk) = machine();
    let path = dir.path().join("etc/fresh/file");
    let later = deployment(&[(FRESH.0, "later\n", Way::New)]);
    write(&disk, &deployment(&[FRESH]));
    // Closed by its owner, and closed it stays.
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    write(&disk, &later);
    assert_eq!(fs::read(&path).unwrap(), b"later\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "later, and theirs\n").unwrap();
    let before = disk.record().unwrap();
    let refused = plan(&later, &before, |path| disk.look(path)).unwrap_err();
    assert!(refused.is::<Foreign>() && refused.to_string().contains("\nhint: "), "{refused}");
    let back = undo(&disk);
    assert!(back.steps.is_empty() && back.notes[0].contains("left as it is"), "{back:?}");
    assert_eq!(fs::read(&path).unwrap(), b"later, and theirs\n");
    // Nothing of it is ours any more, until it says what we would write.
    assert!(plan(&later, &disk.record().unwrap(), |path| disk.look(path)).unwrap_err().is::<Foreign>());
    fs::write(&path, "later\n").unwrap();
    assert!(write(&disk, &later).steps.is_empty());
    assert!(disk.record().unwrap().is_empty());
}

#[test]
fn what_changes_while_somebody_is_asked_is_left() {
    let (dir, disk) = machine();
    let plan = plan(&deployment(&[FRESH]), &Record::default(), |path| disk.look(path)).unwrap();
    fs::create_dir(dir.path().join("etc/fresh")).unwrap();
    fs::write(dir.path().join("etc/fresh/file"), "theirs\n").unwrap();
    let refused = disk.carry_out(&plan, &Record::default()).unwrap_err();
    assert!(refused.to_string().contains("changed meanwhile"), "{refused}");
    assert_eq!(fs::read(dir.path().join("etc/fresh/file")).unwrap(), b"theirs\n");
}

#[test]
fn a_tree_with_links_for_folders_and_a_record_behind_a_link_are_left_alone() {
    let (dir, disk) = machine();
    write(&disk, &deployment(&[OWN]));
    // Below a link nothing is written: it may lead out of the tree.
    let out = TempDir::new().unwrap();
    std::os::unix::fs::symlink(out.path(), dir.path().join("etc/new")).unwrap();
    let refused = plan(&deployment(&[NEW]), &Record::default(), |path| disk.look(path));
    assert!(refused.unwrap_err().to_string().contains("below a folder that is a link"));
    // A record that says to leave its folder is none, nor one behind a link.
    let file = disk.folder().join("record.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("/etc/there/own", "../own")).unwrap();
    assert!(format!("{:#}", disk.record().unwrap_err()).contains("leads out of its folder"));
    let moved = out.path().join("moved");
    fs::rename(disk.folder(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, disk.folder()).unwrap();
    assert!(disk.record().is_err());
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_part_for_its_owner_alone_closes_the_file_around_it() {
    let (dir, disk) = machine();
    let before = picture(dir.path());
    let shared = dir.path().join("etc/there/shared");
    let mode = || fs::metadata(&shared).unwrap().permissions().mode() & 0o777;
    let open = mode();
    let mut secret = deployment(&[SHARED]);
    secret.files[0].mode = 0o600;
    let difference = write(&disk, &secret).difference();
    assert_eq!((open & 0o044, mode()), (0o044, 0o600));
    assert!(difference.contains("becomes 600"), "{difference}");
    undo(&disk);
    let mut now = picture(dir.path());
    now.retain(|path, _| !path.starts_with(dir.path().join("var")));
    assert_eq!(now, before);
}

#[test]
fn nothing_is_written_through_a_link_over_a_folder_or_where_a_file_is_needed() {
    let (dir, disk) = machine();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/there/link")).unwrap();
    fs::write(dir.path().join("etc/there/sole"), "somebody's\n").unwrap();
    let before = picture(dir.path());
    for (path, way, why) in [
        ("/etc/there/link", Way::Whole, "is a link"),
        ("/etc/there", Way::Whole, "is a folder"),
        ("/etc/there/sole", Way::Sole, "is there already"),
    ] {
        let refused = plan(&deployment(&[(path, "x\n", way)]), &Record::default(), |path| disk.look(path));
        assert!(refused.unwrap_err().to_string().contains(why), "{path}");
    }
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn a_start_that_broke_off_is_taken_back_as_well() {
    let (dir, disk) = machine();
    let before = picture(dir.path());
    let deployment = deployment(&[OWN, ("/etc/there/shared/below", "x\n", Way::Whole)]);
    // A file is where a folder is needed: found only when it is made.
    let look = |path: &Path| if path.ends_with("below") { Ok(Found::Nothing) } else { disk.look(path) };
    let plan = plan(&deployment, &Record::default(), look).unwrap();
    assert!(disk.carry_out(&plan, &Record::default()).is_err());
    let record = disk.record().unwrap();
    let back = plan_back("test", &record, look).unwrap();
    disk.carry_out(&back, &record).unwrap();
    disk.forget(&record).unwrap();
    let mut now = picture(dir.path());
    now.retain(|path, _| !path.starts_with(dir.path().join("var")));
    assert_eq!(now, before);
}

#[test]
fn the_record_is_read_back_as_it_was_and_is_its_owners_alone() {
    let (dir, disk) = machine();
    let plan = write(&disk, &deployment(&[OWN, SHARED, NEW]));
    let record = disk.record().unwrap();
    assert_eq!(record.entries, plan.record.entries);
    assert_eq!(record.after_undo, [Act::of("true")]);
    assert_eq!(record.folders, [PathBuf::from("/etc/new"), PathBuf::from("/etc/new/deep")]);
    assert_eq!(fs::metadata(disk.folder()).unwrap().permissions().mode() & 0o777, 0o700);
    let kept = fs::read_dir(disk.folder()).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<PathBuf> = kept.filter(|path| !path.ends_with("record.json")).collect();
    assert_eq!(kept.len(), 2);
    fs::set_permissions(disk.folder(), Permissions::from_mode(0o777)).unwrap();
    assert!(disk.record().unwrap_err().to_string().contains("is not yours alone"));
    fs::set_permissions(disk.folder(), Permissions::from_mode(0o700)).unwrap();
    fs::write(&kept[0], "damaged").unwrap();
    assert!(format!("{:#}", disk.record().unwrap_err()).contains("has been changed"));
    drop(dir);
}

#[test]
fn the_difference_shows_what_goes_and_what_comes() {
    let (_dir, disk) = machine();
    let plan = plan(&deployment(&[OWN, NEW]), &Record::default(), |path| disk.look(path)).unwrap();
    let difference = plan.difference();
    for line in [
        "/etc/there/own: mode 640 becomes 644",
        "--- /etc/there/own",
        "-before",
        "+after",
        "--- /dev/null",
        "+++ /etc/new/deep/file",
        "+new",
    ] {
        assert!(difference.lines().any(|shown| shown == line), "no {line} in\n{difference}");
    }
}
