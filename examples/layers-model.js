/**
 * The same kind of encoder as a tf.LayersModel; the function is given tfjs, and the side of the images:
 *
 *     npx tandem train --encoder ./examples/layers-model.js
 */
export default ({ tf, imageSize }) =>
  tf.sequential({
    layers: [
      tf.layers.conv2d({ inputShape: [imageSize, imageSize, 3], filters: 32, kernelSize: 3, padding: "same" }),
      tf.layers.batchNormalization({ epsilon: 1e-5 }),
      tf.layers.reLU(),
      tf.layers.conv2d({ filters: 64, kernelSize: 3, strides: 2, padding: "same", activation: "relu" }),
      tf.layers.globalAveragePooling2d({}),
      tf.layers.dense({ units: 64, activation: "elu" }),
    ],
  });
