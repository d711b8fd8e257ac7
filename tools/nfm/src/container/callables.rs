//! Which callables a pickle may name in a call, and what becomes of the call.

use super::object::Global;

/// What stands for the result of a call. Nothing is ever called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The call itself, as data: callable and arguments.
    Data,
    /// A dict of the argument's pairs.
    Dict,
    /// The argument itself: `set([..])`, `torch.Size((..))`.
    Argument,
    /// An object of the class that the first argument names.
    NewObject,
    /// The same, by protocols 0 and 1: class, base, value of the base.
    Reconstruct,
    /// Bytes that Python 2 protocols write as Latin-1 text.
    Encode,
    /// The qualified name of a member of a known owner.
    Member,
}

/// Known callables: module (`pkg.` with a trailing dot: all below), name (`*` is anything), effect.
const KNOWN: &[(&str, &str, Effect)] = &[
    ("_codecs", "encode", Effect::Encode),
    ("builtins", "bytearray", Effect::Data),
    ("builtins", "bytes", Effect::Data),
    ("builtins", "complex", Effect::Data),
    ("builtins", "frozenset", Effect::Argument),
    ("builtins", "getattr", Effect::Member),
    ("builtins", "object", Effect::Data),
    ("builtins", "range", Effect::Data),
    ("builtins", "set", Effect::Argument),
    ("builtins", "slice", Effect::Data),
    ("builtins", "tuple", Effect::Argument),
    ("collections", "Counter", Effect::Dict),
    ("collections", "OrderedDict", Effect::Dict),
    ("collections", "defaultdict", Effect::Dict),
    ("collections", "deque", Effect::Data),
    ("copyreg", "__newobj__", Effect::NewObject),
    ("copyreg", "_reconstructor", Effect::Reconstruct),
    ("datetime", "*", Effect::Data),
    ("logging", "getLogger", Effect::Data),
    ("numpy", "dtype", Effect::Data),
    ("numpy", "ndarray", Effect::Data),
    ("numpy._core", "_ufunc_reconstruct", Effect::Data),
    ("numpy._core.multiarray", "_reconstruct", Effect::Data),
    ("numpy._core.multiarray", "scalar", Effect::Data),
    ("numpy._core.numeric", "_frombuffer", Effect::Data),
    ("pandas.", "*", Effect::Data),
    ("pathlib", "*Path", Effect::Data),
    ("pathlib._local", "*Path", Effect::Data),
    // An enum member is written as a call of its class.
    ("recbole.utils.enum_type", "*", Effect::Data),
    ("torch", "Size", Effect::Argument),
    ("torch", "device", Effect::Data),
    ("torch", "dtype", Effect::Data),
    ("torch._tensor", "_rebuild_from_type_v2", Effect::Data),
    ("torch._utils", "_rebuild_*", Effect::Data),
    ("torch.nn.", "*", Effect::Data),
    ("torch.serialization", "_get_layout", Effect::Data),
    ("torch.storage", "TypedStorage", Effect::Data),
    ("torch.storage", "UntypedStorage", Effect::Data),
];

/// Owners whose members may be named through `getattr`: torch's functions, and enums.
const OWNERS: &[(&str, &str)] = &[
    ("recbole.utils.enum_type", "*"),
    ("torch", "*"),
    ("torch._C", "_VariableFunctions*"),
    ("torch._C._nn", "*"),
];

/// What a call of `callable` stands for; `None` when it must be refused.
pub(super) fn effect(callable: &Global) -> Option<Effect> {
    let row = KNOWN.iter().find(|(module, name, _)| matches(callable, module, name));
    row.map(|(_, _, effect)| *effect)
}

/// The name of member `name` of `owner`, as one writes it; `None` when the owner is not a known one.
pub(super) fn member(owner: &Global, name: &str) -> Option<Global> {
    OWNERS.iter().find(|(m, n)| matches(owner, m, n))?;
    // `torch.relu` is a member of a hidden class.
    let hidden = owner.name.starts_with("_VariableFunctions");
    let module = if hidden { "torch".into() } else { owner.to_string() };
    Some(Global { module: module.into(), name: name.into() })
}

/// The name by which this table and all after it know a module: Python 3's and the newest numpy's.
pub(super) fn canonical_module(module: &str) -> String {
    match module {
        "__builtin__" => "builtins".into(),
        "copy_reg" => "copyreg".into(),
        "numpy.core" => "numpy._core".into(),
        _ => match module.strip_prefix("numpy.core.") {
            Some(rest) => format!("numpy._core.{rest}"),
            None => module.into(),
        },
    }
}

fn matches(global: &Global, module: &str, name: &str) -> bool {
    let in_module = &*global.module == module || module.ends_with('.') && global.module.starts_with(module);
    let named = match name.split_once('*') {
        Some((start, end)) => global.name.starts_with(start) && global.name.ends_with(end),
        None => &*global.name == name,
    };
    in_module && named
}
