//! Every fixture, cut at 50 places and with 200 random changes of one byte: an error or tensors, within bounds.
//!
//! A file or folder below `tests/fixtures` takes part by being there. `NFM_SEED` chooses other changes.

#![expect(unsafe_code, reason = "an allocator that counts must implement GlobalAlloc")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nfm::{
    container::read,
    dialect::{Hints, import},
    synthetic::Random,
    tensors::{Tensors, Values},
};

const CUTS: usize = 50;
const CHANGES: usize = 200;
const MAX_BYTES: isize = 1 << 30;
const MAX_TIME: Duration = Duration::from_secs(10);

/// What the hostile pickles among the fixtures would create, were anything in them executed.
const PWNED: &str = "/tmp/embedded-nfm-pwned";

/// Counts the bytes that each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends allocates no more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // Both are there while the bytes move.
        count(len.cast_signed());
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A file to damage, and what to read then: the file itself or the folder that it is a part of.
#[derive(Debug, Clone)]
struct Case {
    /// The fixture, right below `tests/fixtures`.
    fixture: PathBuf,
    /// Below the fixture.
    file: PathBuf,
    /// Below the fixture.
    target: PathBuf,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    entries
}

/// All files below `folder`, then the folder itself: what is inside of it comes first.
fn files_and_folders(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for path in entries(folder) {
        if path.is_dir() {
            let (inner, inner_folders) = files_and_folders(&path);
            files.extend(inner);
            folders.extend(inner_folders);
        } else {
            files.push(path);
        }
    }
    folders.push(folder.to_owned());
    (files, folders)
}

/// Rows, scores and schemas, which are no part of a checkpoint.
fn is_beside(file: &Path) -> bool {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    stem.is_some_and(|stem| ["rows", "expected", "schema", "cases"].contains(&stem))
}

/// The cases of a fixture. A file that is no checkpoint is a part of the first one beside or around it.
fn cases(fixture: &Path) -> Vec<Case> {
    let (files, folders) = files_and_folders(fixture);
    let files: Vec<PathBuf> = files.into_iter().filter(|file| !is_beside(file)).collect();
    let targets: Vec<&PathBuf> = files.iter().chain(&folders).filter(|path| read(path).is_ok()).collect();
    let target = |file: &PathBuf| {
        let own = targets.iter().find(|target| **target == file);
        let beside = || targets.iter().find(|target| target.parent() == file.parent() && target.is_file());
        let around = || targets.iter().find(|target| file.starts_with(target));
        own.or_else(around).or_else(beside).map_or(file.clone(), |target| (*target).clone())
    };
    let below = |path: &Path| path.strip_prefix(fixture).expect("below the fixture").to_owned();
    let case = |file: &PathBuf| Case {
        fixture: fixture.to_owned(),
        file: below(file),
        target: below(&target(file)),
    };
    files.iter().map(case).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for path in entries(from) {
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, &to).map(drop).expect("a copy") }
    }
}

fn bits(values: &Values) -> Vec<u64> {
    match values {
        Values::F32(v) => v.iter().map(|v| v.to_bits().into()).collect(),
        Values::F64(v) => v.iter().map(|v| v.to_bits()).collect(),
        Values::I64(v) => v.iter().map(|v| v.cast_unsigned()).collect(),
    }
}

fn is_same(a: &Tensors, b: &Tensors) -> bool {
    let pairs = a.entries.iter().zip(&b.entries);
    a.entries.len() == b.entries.len()
        && pairs.into_iter().all(|((a_name, a), (b_name, b))| {
            a_name == b_name && a.shape == b.shape && bits(&a.values) == bits(&b.values)
        })
}

/// Reads `target`, makes a model of it if that is one, and gives its tensors; the complaint when that breaks a bound.
fn bounded(target: &Path) -> Result<Option<Tensors>, String> {
    let held = HELD.get();
    PEAK.set(held);
    let start = Instant::now();
    let tensors = catch_unwind(AssertUnwindSafe(|| {
        let tensors = read(target)?;
        let _ = import(tensors.clone(), &Hints::default());
        nfm::error::Result::Ok(tensors)
    }));
    let tensors = tensors.map_err(|_| "a panic".to_owned())?;
    let (peak, time) = (PEAK.get() - held, start.elapsed());
    if peak > MAX_BYTES {
        return Err(format!("{peak} bytes of memory"));
    }
    if time > MAX_TIME {
        return Err(format!("{time:?}"));
    }
    match tensors {
        Ok(tensors) => Ok(Some(tensors)),
        Err(_) => Ok(None),
    }
}

/// Damages a file of its own copy of the fixture in all ways; the complaints, and how many ways were errors.
fn damage(case: &Case, seed: u64) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&case.fixture, folder.path());
    let (file, target) = (folder.path().join(&case.file), folder.path().join(&case.target));
    let whole = fs::read(&file).expect("a file");
    let intact = bounded(&target).unwrap_or_else(|complaint| panic!("{case:?}: {complaint}"));
    let (mut complaints, mut errors) = (Vec::new(), 0);
    for cut in 0..CUTS {
        let len = whole.len() * cut / CUTS;
        fs::write(&file, &whole[..len]).expect("a cut file");
        match bounded(&target) {
            Ok(None) => errors += 1,
            // Some formats end with bytes that nothing uses.
            Ok(Some(tensors)) if intact.as_ref().is_some_and(|intact| is_same(intact, &tensors)) => (),
            Ok(Some(_)) => complaints.push(format!("{case:?} cut at {len}: other tensors")),
            Err(complaint) => complaints.push(format!("{case:?} cut at {len}: {complaint}")),
        }
    }
    let mut random = Random::new(
        case.file.to_string_lossy().bytes().fold(seed, |sum, b| sum.wrapping_mul(31) + u64::from(b)),
    );
    let mut bytes = whole.clone();
    for _ in 0..if whole.is_empty() { 0 } else { CHANGES } {
        let at = random.below(u32::try_from(whole.len()).expect("a small file")) as usize;
        bytes[at] ^= u8::try_from(1 + random.below(255)).expect("a byte");
        fs::write(&file, &bytes).expect("a changed file");
        match bounded(&target) {
            Ok(tensors) => errors += usize::from(tensors.is_none()),
            Err(complaint) => {
                complaints.push(format!("{case:?} byte {at} is {:#04x}: {complaint}", bytes[at]));
            }
        }
        bytes[at] = whole[at];
    }
    (complaints, errors)
}

#[test]
fn no_damaged_fixture_panics_or_takes_more_than_its_bounds() {
    let seed = std::env::var("NFM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("NFM_SEED={seed}");
    let _ = fs::remove_file(PWNED);
    let mut cases: Vec<Case> =
        entries(&fixtures()).iter().filter(|f| f.is_dir()).flat_map(|f| cases(f)).collect();
    // The largest first, so that no worker is left alone with it.
    cases.sort_by_key(|case| fs::metadata(case.fixture.join(&case.file)).map_or(0, |m| u64::MAX - m.len()));
    assert!(cases.len() >= 50, "{} cases only", cases.len());
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let (complaints, errors) = damage(case, seed);
                    results.lock().expect("no panic").push((case, start.elapsed(), complaints, errors));
                }
            });
        }
    });
    let results = results.into_inner().expect("no panic");
    let complaints: Vec<&String> = results.iter().flat_map(|(_, _, complaints, _)| complaints).collect();
    assert!(
        complaints.is_empty(),
        "{} complaints, the first: {:#?}",
        complaints.len(),
        &complaints[..complaints.len().min(20)]
    );
    let mut slowest: Vec<_> =
        results.iter().map(|(case, time, ..)| (time, &case.fixture, &case.file)).collect();
    slowest.sort();
    println!("{} cases; the slowest: {:#?}", results.len(), &slowest[slowest.len().saturating_sub(5)..]);
    let errors: usize = results.iter().map(|(.., errors)| errors).sum();
    assert!(errors > results.len() * CUTS, "only {errors} ways of damage were noticed");
    assert!(!Path::new(PWNED).exists());
}
