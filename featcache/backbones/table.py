"""The table of backbones: a new one is a new row."""

from featcache.backbones.base import Backbone
from featcache.registry import Registry

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
_NOTOP = "_weights_tf_dim_ordering_tf_kernels_notop.h5"
BACKBONES = Registry(
    "backbone",
    {
        "densenet121": Backbone(
            *("densenet", "DenseNet121", 1024, 224, "torch"),
            _URL + "densenet/densenet121" + _NOTOP,
            "30ee3e1110167f948a6b9946edeeb738",
        ),
        "resnet50": Backbone(
            *("resnet", "ResNet50", 2048, 224, "caffe"),
            _URL + "resnet/resnet50" + _NOTOP,
            "4d473c1dd8becc155b73f8504c6f6626",
        ),
        "vgg19": Backbone(
            *("vgg19", "VGG19", 512, 224, "caffe"),
            _URL + "vgg19/vgg19" + _NOTOP,
            "253f8cb515780f3b799900260a226db6",
        ),
        "inceptionv3": Backbone(
            *("inception_v3", "InceptionV3", 2048, 299, "tf"),
            _URL + "inception_v3/inception_v3" + _NOTOP,
            "bcbd6486424b2319ff4ef7d526e38f63",
        ),
        "xception": Backbone(
            *("xception", "Xception", 2048, 299, "tf"),
            _URL + "xception/xception" + _NOTOP,
            "b0042744bf5b25fce3cb969f33bebb97",
        ),
    },
    hint="Or give the path of a .keras file.",
)
