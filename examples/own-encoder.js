/**
 * A small convolutional encoder with a squeeze-and-excitation gate, in Tandem's own interface:
 *
 *     npx tandem train --encoder ./examples/own-encoder.js
 */
const WIDTHS = [32, 64, 128];

export default {
  featureDim: WIDTHS[WIDTHS.length - 1],

  parameters(declare) {
    let channels = 3;
    WIDTHS.forEach((width, index) => {
      declare.parameter(`conv${index}.weight`, [3, 3, channels, width], "convolution");
      declare.batchNorm(`norm${index}`, width);
      channels = width;
    });
    declare.parameter("gate.weight", [channels, channels], "dense");
    declare.parameter("gate.bias", [channels], "dense-bias");
  },

  features({ tf, parameter, conv2d, batchNorm }, images) {
    let x = images;
    WIDTHS.forEach((_, index) => {
      const stride = index === 0 ? 1 : 2;
      x = conv2d(x, parameter(`conv${index}.weight`), stride, 1);
      x = batchNorm(`norm${index}`, x, { relu: true });
    });
    const pooled = tf.mean(x, [1, 2]);
    const gate = tf.sigmoid(tf.add(tf.matMul(pooled, parameter("gate.weight")), parameter("gate.bias")));
    return tf.mul(pooled, gate);
  },
};
