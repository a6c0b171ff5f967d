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
            (
                "conv2_block6_concat",
                "conv3_block12_concat",
                "conv4_block24_concat",
                "conv5_block16_concat",
            ),
        ),
        "resnet50": Backbone(
            *("resnet", "ResNet50", 2048, 224, "caffe"),
            _URL + "resnet/resnet50" + _NOTOP,
            "4d473c1dd8becc155b73f8504c6f6626",
            (
                "conv2_block3_out",
                "conv3_block4_out",
                "conv4_block6_out",
                "conv5_block3_out",
            ),
        ),
        "vgg19": Backbone(
            *("vgg19", "VGG19", 512, 224, "caffe"),
            _URL + "vgg19/vgg19" + _NOTOP,
            "253f8cb515780f3b799900260a226db6",
            ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
        ),
        "inceptionv3": Backbone(
            *("inception_v3", "InceptionV3", 2048, 299, "tf"),
            _URL + "inception_v3/inception_v3" + _NOTOP,
            "bcbd6486424b2319ff4ef7d526e38f63",
            ("mixed2", "mixed7", "mixed8", "mixed10"),
        ),
        "xception": Backbone(
            *("xception", "Xception", 2048, 299, "tf"),
            _URL + "xception/xception" + _NOTOP,
            "b0042744bf5b25fce3cb969f33bebb97",
            (
                "block2_pool",
                "block3_pool",
                "block4_pool",
                "block13_pool",
                "block14_sepconv2_act",
            ),
        ),
    },
    hint="Or give the path of a .keras file.",
)
