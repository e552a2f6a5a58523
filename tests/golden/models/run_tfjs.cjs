// Runs the published TensorFlow.js detector on one input; called by make.py.
//   node run_tfjs.cjs TF_MIN_JS MODEL_JSON MODEL_BIN INPUT_F32 OUTPUT_F32
// INPUT_F32: (1, 3, 416, 416) float32. OUTPUT_F32: the six outputs, Identity to Identity_5, one after the other.
const fs = require("fs");

async function main([tfPath, topologyPath, weightsPath, inputPath, outputPath]) {
  const tf = require(tfPath);
  await tf.setBackend("cpu");
  const { modelTopology, weightsManifest, signature } = JSON.parse(fs.readFileSync(topologyPath));
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const weightData = new Uint8Array(fs.readFileSync(weightsPath)).buffer;
  const handler = { load: async () => ({ modelTopology, weightSpecs, weightData, signature }) };
  const model = await tf.loadGraphModel(handler);
  const values = new Float32Array(new Uint8Array(fs.readFileSync(inputPath)).buffer);
  const names = ["Identity", "Identity_1", "Identity_2", "Identity_3", "Identity_4", "Identity_5"];
  const outputs = model.execute(tf.tensor(values, [1, 3, 416, 416]), names.map((name) => `${name}:0`));
  const parts = [];
  for (const output of outputs) parts.push(Buffer.from((await output.data()).buffer));
  fs.writeFileSync(outputPath, Buffer.concat(parts));
}

main(process.argv.slice(2));
