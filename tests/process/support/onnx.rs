//! Writes ONNX files by hand: what no exporter would write, and graphs of any size.

/// A graph whose input `images` is `[1, 3, side, side]`.
pub struct Model {
    side: u64,
    nodes: Vec<u8>,
    weights: Vec<u8>,
    output: String,
}

/// A field that is a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field that is bytes, a text or a message.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// `ValueInfoProto` of 32-bit floats; without dimensions its shape is open.
fn value(name: &str, dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| bytes(1, &number(1, *dim))).collect();
    let shape = if dims.is_empty() { Vec::new() } else { bytes(2, &dims) };
    let tensor = bytes(1, &[number(1, 1), shape].concat());
    [bytes(1, name.as_bytes()), bytes(2, &tensor)].concat()
}

/// `AttributeProto` of integers.
pub fn integers(name: &str, values: &[u64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
    [bytes(1, name.as_bytes()), values, number(20, 7)].concat()
}

/// `AttributeProto` of one integer.
pub fn integer(name: &str, value: u64) -> Vec<u8> {
    [bytes(1, name.as_bytes()), number(3, value), number(20, 2)].concat()
}

impl Model {
    pub fn new(side: u64, output: &str) -> Model {
        Model { side, nodes: Vec::new(), weights: Vec::new(), output: output.to_owned() }
    }

    /// A node named after its output.
    pub fn node(mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Model {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
        let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| bytes(5, attribute)).collect();
        let name = output.as_bytes();
        let node =
            [inputs, bytes(2, name), bytes(3, name), bytes(4, operator.as_bytes()), attributes].concat();
        self.nodes.extend(bytes(1, &node));
        self
    }

    /// Floats of that shape, small and different.
    pub fn floats(mut self, name: &str, dims: &[u64]) -> Model {
        let count: u64 = dims.iter().product();
        let raw: Vec<u8> = (0..count).flat_map(|index| ((index % 251) as f32 * 1e-5).to_le_bytes()).collect();
        let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
        let tensor = [dims, number(2, 1), bytes(8, name.as_bytes()), bytes(9, &raw)].concat();
        self.weights.extend(bytes(5, &tensor));
        self
    }

    /// 64-bit integers.
    pub fn shape(mut self, name: &str, values: &[i64]) -> Model {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor =
            [number(1, values.len() as u64), number(2, 7), bytes(8, name.as_bytes()), bytes(9, &raw)]
                .concat();
        self.weights.extend(bytes(5, &tensor));
        self
    }

    /// Floats of that shape in another file.
    pub fn elsewhere(mut self, name: &str, dims: &[u64], file: &str) -> Model {
        let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
        let entry = [bytes(1, b"location"), bytes(2, file.as_bytes())].concat();
        let tensor =
            [dims, number(2, 1), bytes(8, name.as_bytes()), bytes(13, &entry), number(14, 1)].concat();
        self.weights.extend(bytes(5, &tensor));
        self
    }

    /// The file, with three class names.
    pub fn file(self) -> Vec<u8> {
        let input = value("images", &[1, 3, self.side, self.side]);
        let output = value(&self.output, &[]);
        let graph =
            [self.nodes, bytes(2, b"g"), self.weights, bytes(11, &input), bytes(12, &output)].concat();
        let names = [bytes(1, b"names"), bytes(2, b"{0: 'red', 1: 'green', 2: 'blue'}")].concat();
        [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13)), bytes(14, &names)].concat()
    }
}
