//! Small graphs, written by hand.

use indexmap::IndexMap;

use crate::{
    dialect::{Hints, import},
    float_model::{Activation, FloatModel, Link},
    rows::Row,
    schema::{Field, FieldKind, Pooling, Schema, Task, lay_out},
    tensors::{Attribute, Fact, Graph, GraphValue, Node, Tensor, Tensors, Values},
};

/// What a graph is made of: `op(inputs) -> output`, with attributes `name=1,2`.
struct Sketch {
    tensors: Tensors,
    graph: Graph,
}

impl Sketch {
    /// Two fields with tables `u` of 2 rows and `i` of 3, two lanes; first order `uw` and `iw`; constants `c…` by their value.
    fn new(inputs: &[(&str, &[Option<usize>], &'static str)]) -> Self {
        let input = |(name, shape, dtype): &(&str, &[Option<usize>], &'static str)| GraphValue {
            name: (*name).into(),
            shape: shape.to_vec(),
            dtype,
        };
        let graph = Graph { inputs: inputs.iter().map(input).collect(), ..Graph::default() };
        let tensors = Tensors { file: "m.onnx".into(), container: "ONNX", ..Tensors::default() };
        let mut sketch = Self { tensors, graph };
        sketch.floats("u", &[2, 2], &[1.0, 2.0, 3.0, -1.0]);
        sketch.floats("i", &[3, 2], &[0.5, 4.0, -2.0, 1.0, 1.5, 0.25]);
        sketch.floats("uw", &[2, 1], &[0.25, -0.5]);
        sketch.floats("iw", &[3, 1], &[1.0, 2.0, -3.0]);
        for (name, value) in [("half", 0.5), ("two", 2.0), ("eps", 1e-8), ("huge", 1e9), ("zero", 0.0)] {
            sketch.floats(name, &[], &[value]);
        }
        for (name, values) in [("a0", &[0][..]), ("a1", &[1]), ("a2", &[2]), ("last", &[-1]), ("k", &[-1, 2])]
        {
            sketch.ints(name, &[values.len()], values);
        }
        sketch
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let values = Values::F32(values.to_vec());
        let tensor = Tensor { shape: shape.to_vec(), dtype: "f32", values, storage: None };
        self.tensors.entries.insert(name.into(), tensor);
    }

    fn ints(&mut self, name: &str, shape: &[usize], values: &[i64]) {
        let values = Values::I64(values.to_vec());
        let tensor = Tensor { shape: shape.to_vec(), dtype: "i64", values, storage: None };
        self.tensors.entries.insert(name.into(), tensor);
    }

    /// Lines of `output = Op input input name=1,2`.
    fn nodes(mut self, text: &str) -> Self {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (output, call) = line.split_once(" = ").unwrap();
            let mut words = call.split(' ');
            let op = words.next().unwrap().to_owned();
            let (attributes, inputs): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('='));
            let attribute = |word: &&str| {
                let (name, value) = word.split_once('=').unwrap();
                let ints: Vec<i64> = value.split(',').filter_map(|int| int.parse().ok()).collect();
                let value = match (ints.as_slice(), value.parse()) {
                    ([int], _) if name != "axes" && name != "perm" => Attribute::Int(*int),
                    ([], Ok(float)) => Attribute::Float(float),
                    _ => Attribute::Ints(ints),
                };
                (name.to_owned(), value)
            };
            self.graph.nodes.push(Node {
                op,
                name: String::new(),
                inputs: inputs.into_iter().map(str::to_owned).collect(),
                outputs: vec![output.into()],
                attributes: attributes.iter().map(attribute).collect::<IndexMap<_, _>>(),
            });
        }
        self
    }

    fn finish(mut self, output: &str) -> Tensors {
        self.graph.outputs = vec![output.into()];
        self.tensors.graph = Some(self.graph);
        self.tensors.facts.insert("opset".into(), Fact::Int(17));
        self.tensors
    }
}

const BATCH: Option<usize> = None;

/// Inputs of one id each.
fn pair() -> Sketch {
    Sketch::new(&[("user", &[BATCH], "i64"), ("item", &[BATCH], "i64")])
}

fn model(tensors: Tensors) -> FloatModel {
    import(tensors, &Hints::default()).unwrap()
}

fn refusal(tensors: Tensors) -> String {
    import(tensors, &Hints::default()).unwrap_err().to_string()
}

/// Global ids of user 1 and item 1.
fn row() -> Row {
    Row { ids: vec![1, 3], ..Row::default() }
}

fn assert_close(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-9, "{got}, expected {want}");
}

/// User 1 and item 1: z = (3 · -2, -1 · 1) = (-6, -1), their sum is -7.
#[test]
fn each_spelling_of_the_bi_interaction_is_one() {
    let stacked = "eu = Gather u user\nei = Gather i item\nsu = Unsqueeze eu a1\nsi = Unsqueeze ei axes=1\ne = Concat su si axis=1\n";
    for spelling in [
        "s = ReduceSum e a1 keepdims=0\nss = Mul s s\nq = Mul e e\nqs = ReduceSum q axes=1 keepdims=0\nd = Sub ss qs\nz = Mul half d",
        "s = ReduceSum e a1\nss = Pow s two\nqs = ReduceSumSquare e axes=1\nd = Sub ss qs\nh = Div d two\nz = Squeeze h a1",
        "z = Mul eu ei",
        "s = Add eu ei\nss = Mul s s\nqu = Mul eu eu\nqi = Mul ei ei\nd = Sub ss qu\ndd = Sub d qi\nz = Mul dd half",
        "s = Sum eu ei\nss = Mul s s\nm = Neg ss\nq = Mul e e\nqs = ReduceSum q a1 keepdims=0\nd = Add qs m\nn = Div d two\nz = Neg n",
        "t = Transpose e perm=0,2,1\nm = MatMul e t\ng = Gather e a0 axis=1\nh = Gather e a1 axis=1\np = Mul g h\nz = Reshape p k",
    ] {
        let tensors =
            pair().nodes(&(stacked.to_owned() + spelling)).nodes("y = ReduceSum z a1 keepdims=0").finish("y");
        let model = model(tensors);
        assert_eq!(
            model.fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(),
            ["user", "item"]
        );
        assert_eq!((model.dim, model.rows(), model.bias, model.link), (2, 5, 0.0, Link::Identity));
        assert_close(model.score(&row()), -7.0);
    }
}

/// z = (-6, -1); normalized: 2 · (-6 − 1) / √(3 + 1) + 1 = -6, 1 · (-1 − 0) / √(1 + 0) + 0 = -1 (ε 0). Layer: -6 + 2 · -1 + 10 = 2 and
/// 6 − 3 = 3 → negative lanes are none; then 0.5 · 2 − 3 = -2. First order: -0.5 + 2 and w0 0.125: -0.375.
#[test]
fn layers_batch_norms_and_the_first_order_are_found() {
    let mut sketch = pair();
    for (name, values) in
        [("g", [2.0, 1.0]), ("b", [1.0, 0.0]), ("mu", [1.0, 0.0]), ("var", [4.0, 1.0]), ("c", [10.0, -3.0])]
    {
        sketch.floats(name, &[2], &values);
    }
    sketch.floats("w", &[2, 2], &[1.0, 2.0, -1.0, 0.0]);
    sketch.floats("p", &[2, 1], &[0.5, -1.0]);
    sketch.floats("w0", &[1], &[0.125]);
    let layers = "eu = Gather u user\nei = Gather i item\nz = Mul eu ei\nn = BatchNormalization z g b mu var epsilon=0.0
        l = Gemm n w c transB=1\nh = Relu l\nd = MatMul h p\nfu = Gather uw user\nfi = Gather iw item\nf = Concat fu fi axis=1
        fs = ReduceSum f a1\ny = Add fs d\nyy = Add y w0\ns = Sigmoid yy";
    let model = model(sketch.nodes(layers).finish("s"));
    assert_eq!(model.link, Link::Sigmoid);
    assert_eq!(model.linear, [0.25, -0.5, 1.0, 2.0, -3.0]);
    assert_close(model.first_order(&row()), -0.5 + 2.0 + 0.125);
    assert_close(model.score(&row()), -2.0 - 0.375 + 2.0);
}

#[test]
fn activations_are_what_the_graph_has() {
    let layer = "eu = Gather u user\nei = Gather i item\nz = Mul eu ei\n";
    for (op, want) in [
        ("h = Tanh z", Activation::Tanh),
        ("h = Sigmoid z", Activation::Sigmoid),
        ("h = Elu z alpha=0.5", Activation::Elu(0.5)),
        ("h = LeakyRelu z alpha=0.25", Activation::LeakyRelu(0.25)),
        ("h = PRelu z slopes", Activation::PRelu(vec![0.5, 0.25])),
        ("h = Max z zero", Activation::Relu),
        ("h = Clip z zero", Activation::Relu),
    ] {
        let mut sketch = pair();
        sketch.floats("slopes", &[2], &[0.5, 0.25]);
        let model = model(sketch.nodes(layer).nodes(op).nodes("y = ReduceSum h a1 keepdims=0").finish("y"));
        let found =
            model.stages.iter().any(|stage| *stage == crate::float_model::Stage::Activation(want.clone()));
        assert!(found, "{op}: {:?}", model.stages);
    }
}

/// One table for all: ids with values, as libFM has them.
#[test]
fn values_make_entries_of_one_table() {
    let sketch = Sketch::new(&[("ids", &[BATCH, Some(3)], "i64"), ("x", &[BATCH, Some(3)], "f32")]);
    let model = model(
        sketch
            .nodes("e = Gather i ids\nxx = Unsqueeze x last\nv = Mul e xx\ns = ReduceSum v a1 keepdims=0\nss = Mul s s\nq = Mul v v")
            .nodes("qs = ReduceSum q a1 keepdims=0\nd = Sub ss qs\nz = Mul d half\nf = Gather iw ids\nfq = Squeeze f last")
            .nodes("fx = Mul fq x\nfs = ReduceSum fx a1 keepdims=0\nzs = ReduceSum z a1 keepdims=0\ny = Add fs zs")
            .finish("y"),
    );
    assert!(matches!(model.fields[0].kind, FieldKind::Ids { rows: 3 }) && model.max_active == 3);
    // 0.5 · row 0 and -2 · row 1: (0.25 · 4, 2 · -2) = (1, -4); first order 0.5 − 4.
    let row = Row { ids: vec![0, 1], values: Some(vec![0.5, -2.0]), ..Row::default() };
    assert_close(model.score(&row), 1.0 - 4.0 + 0.5 - 4.0);
}

/// `user` and three items of which padding 0 is masked.
fn sequence(pooled: &str) -> Tensors {
    let sketch = Sketch::new(&[("user", &[BATCH], "i64"), ("items", &[BATCH, Some(3)], "i64")]);
    let mut sketch = sketch.nodes("eu = Gather u user\ne = Gather i items\nis = Equal items pad\nnot = Not is\nm = Cast not to=1\nmm = Unsqueeze m last");
    sketch.ints("pad", &[], &[0]);
    sketch.nodes(pooled).nodes("z = Mul eu t\ny = ReduceSum z a1 keepdims=0").finish("y")
}

#[test]
fn sequences_are_pooled_as_the_graph_does() {
    let masked = "me = Mul e mm\ns = ReduceSum me a1 keepdims=0\nc = ReduceSum m a1\n";
    for (pooled, pooling) in [
        ("t = Identity s", Pooling::Sum),
        ("n = Add c eps\nt = Div s n", Pooling::Mean),
        ("n = Clip c one\nt = Div s n", Pooling::Mean),
        ("n = Sqrt c\nt = Div s n", Pooling::SqrtN),
        ("n = Add c eps\nr = Pow n half\nt = Div s r", Pooling::SqrtN),
        ("o = Sub one mm\nb = Mul o huge\nl = Sub e b\nt = ReduceMax l a1 keepdims=0", Pooling::Max),
        ("w = Where is3 low e\nt = ReduceMax w a1 keepdims=0", Pooling::Max),
    ] {
        let mut tensors = sequence(&format!("is3 = Unsqueeze is last\n{masked}{pooled}"));
        for (name, value) in [("one", 1.0), ("low", -1e9)] {
            let values = Values::F32(vec![value]);
            tensors
                .entries
                .insert(name.into(), Tensor { shape: vec![], dtype: "f32", values, storage: None });
        }
        let model = model(tensors);
        let FieldKind::Sequence(found) = model.fields[1].kind else { panic!("{:?}", model.fields) };
        assert_eq!((found.pooling, found.padding, found.max_len), (pooling, Some(0), Some(3)), "{pooled}");
    }
}

/// The first `n` of three items count; the table of items has no padding.
#[test]
fn a_length_is_no_field() {
    let inputs: [(&str, &[Option<usize>], &'static str); 3] =
        [("user", &[BATCH], "i64"), ("items", &[BATCH, Some(3)], "i64"), ("n", &[BATCH, Some(1)], "i64")];
    let mut sketch = Sketch::new(&inputs);
    sketch.ints("places", &[3], &[0, 1, 2]);
    let rest = "eu = Gather u user\ne = Gather i items\nin = Less places n\nm = Cast in to=1\nmm = Unsqueeze m last
        me = Mul e mm\ns = ReduceSum me a1 keepdims=0\nf = Cast n to=1\nc = Add f eps\nt = Div s c\nz = Mul eu t
        y = ReduceSum z a1 keepdims=0";
    let model = model(sketch.nodes(rest).finish("y"));
    let [_, items] = model.fields.as_slice() else { panic!("{:?}", model.fields) };
    let FieldKind::Sequence(found) = items.kind else { panic!("{items:?}") };
    assert_eq!((found.pooling, found.padding, found.rows), (Pooling::Mean, None, 3));
    // Another input does not count the entries.
    let mut other = Sketch::new(&[inputs[0], inputs[1], inputs[2], ("k", &[BATCH, Some(1)], "i64")]);
    other.ints("places", &[3], &[0, 1, 2]);
    let message = refusal(other.nodes(&rest.replace("f = Cast n", "f = Cast k")).finish("y"));
    assert!(message.contains("(Div)") && message.contains("the number of others"), "{message}");
}

/// A sum without a mask is one over all places, where no row of zeros can stand for nothing.
#[test]
fn a_row_of_zeros_pads_a_sum() {
    let summed = |first_row: [f32; 2]| {
        let mut tensors = sequence("t = ReduceSum e a1 keepdims=0");
        if let Some(tensor) = tensors.entries.get_mut("i") {
            tensor.values = Values::F32([&first_row[..], &[-2.0, 1.0, 1.5, 0.25]].concat());
        }
        let FieldKind::Sequence(found) = model(tensors).fields[1].kind else { panic!() };
        (found.pooling, found.padding)
    };
    assert_eq!(summed([0.0, 0.0]), (Pooling::Sum, Some(0)));
    assert_eq!(summed([0.0, 1.0]), (Pooling::Sum, None));
}

#[test]
fn a_graph_of_another_function_is_refused_by_node() {
    let start = "eu = Gather u user\nei = Gather i item\nz = Mul eu ei\n";
    for (rest, essential) in [
        ("y = Softplus z", "node `y` (Softplus)"),
        // The embeddings join the layer themselves.
        (
            "c = Concat eu z axis=1\nh = MatMul c w4\nr = Relu h\ny = ReduceSum r a1 keepdims=0",
            "embeddings of input `user`",
        ),
        // A product of three.
        ("t = Mul z eu\ny = ReduceSum t a1 keepdims=0", "products of two terms"),
        // Lanes that are crossed.
        ("f = Gather eu rev axis=1\nt = Mul f ei\ny = ReduceSum t a1 keepdims=0", "within a lane"),
        // A square is no pair.
        ("s = Mul eu ei\nq = Mul eu eu\nt = Add s q\ny = ReduceSum t a1 keepdims=0", "the square of one"),
        // The score of a row looks at other rows.
        ("t = ReduceSum z a0\ny = ReduceSum t a1 keepdims=0", "expected one score a row"),
        ("t = ReduceSum z a0\ne = Add z t\ny = ReduceSum e a1 keepdims=0", "looks at others"),
        ("y = Identity z", "expected one score a row"),
        ("a = Relu z\nb = Add a z\ny = ReduceSum b a1 keepdims=0", "layers that follow each other"),
        ("a = Relu z\nb = Tanh z\nc = Add a b\ny = ReduceSum c a1 keepdims=0", "one activation"),
        ("a = Relu eu\ny = ReduceSum a a1 keepdims=0", "user"),
        ("y = ReduceSum eu a1 keepdims=0", "expected the Bi-Interaction"),
        ("a = Add z missing\ny = ReduceSum a a1 keepdims=0", "`missing` from a node before it"),
    ] {
        let mut sketch = pair();
        sketch.floats("w4", &[4, 2], &[0.5, 1.0, -1.0, 2.0, 0.25, 1.5, 3.0, -0.5]);
        sketch.ints("rev", &[2], &[1, 0]);
        let message = refusal(sketch.nodes(start).nodes(rest).finish("y"));
        assert!(message.starts_with("m.onnx: ") && message.contains(essential), "{rest}: {message}");
    }
}

/// A schema of ids: `name rows`, or `name =table` for one that shares.
fn schema(text: &str) -> Hints {
    let field = |text: &str| {
        let (name, rows) = text.trim().split_once(' ').unwrap();
        match rows.strip_prefix('=') {
            Some(table) => Field { table: Some(table.into()), ..Field::new(name, FieldKind::Id { rows: 0 }) },
            None if rows == "dense" => Field::new(name, FieldKind::Dense),
            None => Field::new(name, FieldKind::Id { rows: rows.parse().unwrap() }),
        }
    };
    let mut fields: Vec<Field> = text.split(',').map(field).collect();
    lay_out(&mut fields).unwrap();
    let schema = Schema { schema_version: 1, fields, ..Schema::default() };
    Hints { schema: Some(schema), ..Hints::default() }
}

fn plain() -> Tensors {
    pair()
        .nodes("eu = Gather u user\nei = Gather i item\nz = Mul eu ei\ny = ReduceSum z a1 keepdims=0")
        .finish("y")
}

#[test]
fn a_schema_names_and_orders_fields_and_must_fit() {
    let hints = schema("item 3, user 2");
    let model = import(plain(), &hints).unwrap();
    assert_eq!(model.embeddings[..2], [0.5, 4.0]);
    let hints = schema("who 2, what 3");
    assert_eq!(import(plain(), &hints).unwrap().fields[1].name, "what");
    for (fields, essential) in [
        ("who 2", "takes 2 fields (user, item), the schema has 1"),
        ("who 2, what 4", "says 4 rows, the graph has 3"),
        ("who 2, what dense", "an id there, the schema a dense input"),
        ("who 2, what =who", "says 2 rows, the graph has 3"),
    ] {
        let message = import(plain(), &schema(fields)).unwrap_err().to_string();
        assert!(message.contains(essential), "{fields}: {message}");
    }
    let said = Hints { activation: Some("tanh".into()), ..Hints::default() };
    let relu =
        "eu = Gather u user\nei = Gather i item\nz = Mul eu ei\nh = Relu z\ny = ReduceSum h a1 keepdims=0";
    let message = import(pair().nodes(relu).finish("y"), &said).unwrap_err().to_string();
    assert!(message.contains("`tanh` was said, the graph's is relu"), "{message}");
    let said = Hints { task: Some(Task::Regression), ..Hints::default() };
    let sigmoid =
        "eu = Gather u user\nei = Gather i item\nz = Mul eu ei\nh = ReduceSum z a1 keepdims=0\ny = Sigmoid h";
    let message = import(pair().nodes(sigmoid).finish("y"), &said).unwrap_err().to_string();
    assert!(message.contains("ends in sigmoid"), "{message}");
}

/// Columns of one input have no names, their tables may.
#[test]
fn names_of_tables_order_the_columns_of_one_input() {
    let split = "user = Gather all a0 axis=1\nitem = Gather all a1 axis=1\nuu = Squeeze user a1\nii = Squeeze item a1
        eu = Gather emb.user.weight uu\nei = Gather emb.item.weight ii\nz = Mul eu ei\ny = ReduceSum z a1 keepdims=0";
    let graph = |name: &str| {
        let mut sketch = Sketch::new(&[("all", &[BATCH, Some(2)], "f32")]);
        sketch.floats("emb.user.weight", &[2, 2], &[1.0, 2.0, 3.0, -1.0]);
        sketch.floats(name, &[2, 2], &[0.5, 4.0, -2.0, 1.0]);
        sketch.nodes(&split.replace("emb.item.weight", name)).finish("y")
    };
    let hints = schema("item 2, user 2");
    let model = import(graph("emb.item.weight"), &hints).unwrap();
    assert_eq!((&model.fields[0].name[..], model.embeddings[0]), ("item", 0.5));
    let message = import(graph("emb.other.weight"), &hints).unwrap_err().to_string();
    assert!(message.contains("field `item`") && message.contains("has `user` in its place"), "{message}");
}

/// Offsets are a constant of the graph, or nowhere: then the schema cuts the table.
#[test]
fn one_table_for_all_fields_is_cut_by_offsets_or_by_the_schema() {
    let rest = "e = Gather i all\ns = ReduceSum e a1 keepdims=0\nss = Mul s s\nq = Mul e e\nqs = ReduceSum q a1 keepdims=0
        d = Sub ss qs\nz = Mul d half\ny = ReduceSum z a1 keepdims=0";
    let both = || Sketch::new(&[("ids", &[BATCH, Some(2)], "i64")]);
    let mut offsets = both().nodes("all = Add ids off").nodes(rest);
    offsets.ints("off", &[1, 2], &[0, 1]);
    let found = model(offsets.finish("y"));
    assert_eq!(found.fields.iter().map(|field| field.kind.rows()).collect::<Vec<_>>(), [1, 2]);
    let global = || both().nodes("all = Identity ids").nodes(rest).finish("y");
    assert!(matches!(model(global()).fields[0].kind, FieldKind::Ids { rows: 3 }));
    let hints = schema("a 2, b 1");
    let cut = import(global(), &hints).unwrap();
    assert_eq!((cut.fields[1].first, cut.embeddings.len()), (2, 6));
    // Rows 1 and 2: (-2 · 1.5, 1 · 0.25).
    assert_close(cut.score(&Row { ids: vec![1, 2], ..Row::default() }), -3.0 + 0.25);
    let hints = schema("a 3, b =a");
    assert_eq!(import(global(), &hints).unwrap().rows(), 3);
}
