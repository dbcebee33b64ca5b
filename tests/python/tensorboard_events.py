"""What TensorBoard's own loader has of a folder of event files, as JSON.

usage: python tests/python/tensorboard_events.py RUN/tensorboard     (needs tensorboard, numpy, protobuf, absl-py)
"""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

KINDS = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}  # 0: all of them


def main(folder):
    events = EventAccumulator(folder, size_guidance=KINDS)
    events.Reload()
    tags = events.Tags()
    print(json.dumps({
        "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
        "histograms": {
            tag: [[e.step, e.histogram_value.num, e.histogram_value.bucket] for e in events.Histograms(tag)]
            for tag in tags["histograms"]
        },
        "images": {
            tag: [[e.step, e.width, e.height, e.encoded_image_string.hex()] for e in events.Images(tag)]
            for tag in tags["images"]
        },
        "texts": {
            tag: [[e.step, e.tensor_proto.string_val[0].decode()] for e in events.Tensors(tag)]
            for tag in tags["tensors"]
            if events.SummaryMetadata(tag).plugin_data.plugin_name == "text"
        },
    }))


main(sys.argv[1])
