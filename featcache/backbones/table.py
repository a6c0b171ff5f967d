"""The table of backbones, one row a network: all those of ``keras.applications``.

Behind them stand the baselines, which need no network.
"""

from collections.abc import Iterator

from featcache.backbones.base import Backbone
from featcache.backbones.baselines import ROWS
from featcache.core.registry import Registry

CLASSIC5 = ("densenet121", "resnet50", "vgg19", "inceptionv3", "xception")

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
_NOTOP = "_weights_tf_dim_ordering_tf_kernels_notop.h5"
# Keras' EfficientNet divides by the root of the deviation once more, but only where
# it loads the ImageNet weights itself.
_ROOT_STD = (0.229**-0.5, 0.224**-0.5, 0.225**-0.5)

# Of the ImageNet weights, module by module, from the section "License" of each network
# in docs/templates/applications.md of Keras 2.3. Of later networks Keras states none.
_LICENCES = {
    "densenet": "BSD-3-Clause",
    "inception_resnet_v2": "Apache-2.0",
    "inception_v3": "Apache-2.0",
    "mobilenet": "Apache-2.0",
    "mobilenet_v2": "Apache-2.0",
    "nasnet": "Apache-2.0",
    "resnet": "MIT",
    "resnet_v2": "BSD",
    "vgg16": "CC-BY-4.0",
    "vgg19": "CC-BY-4.0",
    "xception": "MIT",
}

# Keras' factory, width, default side, what stands for {file} in the family's URL,
# checksum (32 digits: MD5, 64: SHA-256), and what stands for {tap} in the names of
# the default taps.
_Row = tuple[str, int, int, str, str, str]


def _family(
    module: str,
    preprocess: str,
    url: str,
    tap: str,
    *rows: _Row,
    saved_as: str = "",
    rescale: tuple[float, ...] = (),
) -> Iterator[tuple[str, Backbone]]:
    """Rows of one module of ``keras.applications``."""
    for factory, dim, side, file, checksum, taps in rows:
        yield (
            factory.lower(),
            Backbone(
                *(module, factory, dim, side, preprocess, url.format(file=file)),
                md5=checksum if len(checksum) == 32 else "",
                sha256=checksum if len(checksum) == 64 else "",
                taps=tuple(tap.format(file=file, tap=end) for end in taps.split()),
                saved_as=saved_as.format(file=file),
                rescale=rescale,
                licence=_LICENCES.get(module, ""),
            ),
        )


# fmt: off
_ALL: dict[str, Backbone] = dict([
    *_family(
        "densenet", "torch", _KERAS + "densenet/{file}" + _NOTOP, "{tap}_concat",
        ("DenseNet121", 1024, 224,
         "densenet121", "30ee3e1110167f948a6b9946edeeb738",
         "conv2_block6 conv3_block12 conv4_block24 conv5_block16"),
        ("DenseNet169", 1664, 224,
         "densenet169", "b8c4d4c20dd625c148057b9ff1c1176b",
         "conv2_block6 conv3_block12 conv4_block32 conv5_block32"),
        ("DenseNet201", 1920, 224,
         "densenet201", "c13680b51ded0fb44dff2d8f86ac8bb1",
         "conv2_block6 conv3_block12 conv4_block48 conv5_block32"),
    ),
    *_family(
        "resnet", "caffe", _KERAS + "resnet/{file}" + _NOTOP, "{tap}_out",
        ("ResNet50", 2048, 224,
         "resnet50", "4d473c1dd8becc155b73f8504c6f6626",
         "conv2_block3 conv3_block4 conv4_block6 conv5_block3"),
        ("ResNet101", 2048, 224,
         "resnet101", "88cf7a10940856eca736dc7b7e228a21",
         "conv2_block3 conv3_block4 conv4_block23 conv5_block3"),
        ("ResNet152", 2048, 224,
         "resnet152", "ee4c566cf9a93f14d82f913c2dc6dd0c",
         "conv2_block3 conv3_block8 conv4_block36 conv5_block3"),
    ),
    *_family(
        "resnet_v2", "tf", _KERAS + "resnet/{file}" + _NOTOP, "{tap}_out",
        ("ResNet50V2", 2048, 224,
         "resnet50v2", "fac2f116257151a9d068a22e544a4917",
         "conv2_block3 conv3_block4 conv4_block6 conv5_block3"),
        ("ResNet101V2", 2048, 224,
         "resnet101v2", "c0ed64b8031c3730f411d2eb4eea35b5",
         "conv2_block3 conv3_block4 conv4_block23 conv5_block3"),
        ("ResNet152V2", 2048, 224,
         "resnet152v2", "ed17cf2e0169df9d443503ef94b23b33",
         "conv2_block3 conv3_block8 conv4_block36 conv5_block3"),
    ),
    *_family(
        "vgg16", "caffe", _KERAS + "vgg16/{file}" + _NOTOP, "block{tap}_pool",
        ("VGG16", 512, 224,
         "vgg16", "6d6bbae143d832006294945121d1f1fc", "1 2 3 4 5"),
    ),
    *_family(
        "vgg19", "caffe", _KERAS + "vgg19/{file}" + _NOTOP, "block{tap}_pool",
        ("VGG19", 512, 224,
         "vgg19", "253f8cb515780f3b799900260a226db6", "1 2 3 4 5"),
    ),
    *_family(
        "inception_v3", "tf", _KERAS + "inception_v3/{file}" + _NOTOP, "mixed{tap}",
        ("InceptionV3", 2048, 299,
         "inception_v3", "bcbd6486424b2319ff4ef7d526e38f63", "2 7 8 10"),
    ),
    *_family(
        "inception_resnet_v2", "tf", _KERAS + "inception_resnet_v2/{file}" + _NOTOP,
        "{tap}_ac",
        ("InceptionResNetV2", 1536, 299,
         "inception_resnet_v2", "d19885ff4a710c122648d3b5c3b684e4",
         "block35_10 block17_20 block8_9 conv_7b"),
    ),
    *_family(
        "xception", "tf", _KERAS + "xception/{file}" + _NOTOP, "block{tap}",
        ("Xception", 2048, 299,
         "xception", "b0042744bf5b25fce3cb969f33bebb97",
         "2_pool 3_pool 4_pool 13_pool 14_sepconv2_act"),
    ),
    # Trained at 224 px. Keras has further files for some smaller inputs.
    *_family(
        "mobilenet", "tf", _KERAS + "mobilenet/mobilenet_{file}_tf_no_top.h5",
        "conv_pw_{tap}_relu",
        ("MobileNet", 1024, 224, "1_0_224", "", "1 3 5 11 13"),
    ),
    *_family(
        "mobilenet_v2", "tf", _KERAS + "mobilenet_v2/mobilenet_v2_weights_"
        "tf_dim_ordering_tf_kernels_{file}_no_top.h5", "block_{tap}",
        ("MobileNetV2", 1280, 224,
         "1.0_224", "", "2_add 5_add 12_add 16_project_BN"),
    ),
    *_family(
        "nasnet", "tf", _KERAS + "nasnet/NASNet-{file}-no-top.h5",
        "normal_concat_{tap}",
        ("NASNetMobile", 1056, 224,
         "mobile", "1ed92395b5b598bdda52abe5c0dbfd63", "3 8 12"),
        ("NASNetLarge", 4032, 331,
         "large", "d81d89dc07e6e56530c4e77faddd61b5", "5 12 18"),
        saved_as="nasnet_{file}_no_top.h5",
    ),
    # From here on the input scaling is inside the network.
    *_family(
        "mobilenet_v3", "none", _KERAS + "mobilenet_v3/weights_mobilenet_v3_"
        "{file}_224_1.0_float_no_top_v2.h5", "expanded_conv_{tap}",
        ("MobileNetV3Small", 576, 224,
         "small", "d3e8ec802a04aa4fc771ee12a9a9b836",
         "project_bn 2_add 7_add 10_add"),
        ("MobileNetV3Large", 960, 224,
         "large", "07fb09a5933dd0c8eaafa16978110389",
         "add 2_add 5_add 11_add 14_add"),
    ),
    *_family(
        "efficientnet", "none",
        "https://storage.googleapis.com/keras-applications/efficientnet{file}_notop.h5",
        "block{tap}",
        ("EfficientNetB0", 1280, 224,
         "b0", "50bc09e76180e00e4465e1a485ddc09d",
         "1a_project_bn 2b_add 3b_add 5c_add 7a_project_bn"),
        ("EfficientNetB1", 1280, 240,
         "b1", "74c4e6b3e1f6a1eea24c589628592432",
         "1b_add 2c_add 3c_add 5d_add 7b_add"),
        ("EfficientNetB2", 1408, 260,
         "b2", "111f8e2ac8aa800a7a99e3239f7bfb39",
         "1b_add 2c_add 3c_add 5d_add 7b_add"),
        ("EfficientNetB3", 1536, 300,
         "b3", "af6d107764bb5b1abb91932881670226",
         "1b_add 2c_add 3c_add 5e_add 7b_add"),
        ("EfficientNetB4", 1792, 380,
         "b4", "ebc24e6d6c33eaebbd558eafbeedf1ba",
         "1b_add 2d_add 3d_add 5f_add 7b_add"),
        ("EfficientNetB5", 2048, 456,
         "b5", "38879255a25d3c92d5e44e04ae6cec6f",
         "1c_add 2e_add 3e_add 5g_add 7c_add"),
        ("EfficientNetB6", 2304, 528,
         "b6", "9ecce42647a20130c1f39a5d4cb75743",
         "1c_add 2f_add 3f_add 5h_add 7c_add"),
        ("EfficientNetB7", 2560, 600,
         "b7", "cbcfe4450ddf6f3ad90b1b398090fe4a",
         "1d_add 2g_add 3g_add 5j_add 7d_add"),
        rescale=_ROOT_STD,
    ),
    *_family(
        "efficientnet_v2", "none",
        _KERAS + "efficientnet_v2/efficientnetv2-{file}_notop.h5", "block{tap}",
        ("EfficientNetV2B0", 1280, 224,
         "b0", "893217f2bb855e2983157299931e43ff",
         "1a_project_activation 2b_add 3b_add 5e_add 6h_add"),
        ("EfficientNetV2B1", 1280, 240,
         "b1", "0e80663031ca32d657f9caa404b6ec37",
         "1b_add 2c_add 3c_add 5f_add 6i_add"),
        ("EfficientNetV2B2", 1408, 260,
         "b2", "1dfe2e7a5d45b6632553a8961ea609eb",
         "1b_add 2c_add 3c_add 5f_add 6j_add"),
        ("EfficientNetV2B3", 1536, 300,
         "b3", "f6abf7b5849ac99a89b50dd3fd532856",
         "1b_add 2c_add 3c_add 5g_add 6l_add"),
        ("EfficientNetV2S", 1280, 384,
         "s", "af0682fb74e8c54910f2d4393339c070",
         "1b_add 2d_add 3d_add 5i_add 6o_add"),
        ("EfficientNetV2M", 1280, 480,
         "m", "1b8dc055df72dde80d614482840fe342",
         "1c_add 2e_add 3e_add 5n_add 7e_add"),
        ("EfficientNetV2L", 1280, 480,
         "l", "b0b66b5c863aef5b46e8608fe1711615",
         "1d_add 2g_add 3g_add 5s_add 7g_add"),
    ),
    # Its stages end in sums without a name; the normalised sums have one. The last
    # of them is the embedding.
    *_family(
        "convnext", "none", _KERAS + "convnext/convnext_{file}_notop.h5",
        "convnext_{file}_downsampling_layernorm_{tap}",
        ("ConvNeXtTiny", 768, 224, "tiny",
         "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1", "0 1 2"),
        ("ConvNeXtSmall", 768, 224, "small",
         "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab", "0 1 2"),
        ("ConvNeXtBase", 1024, 224, "base",
         "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45", "0 1 2"),
        ("ConvNeXtLarge", 1536, 224, "large",
         "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd", "0 1 2"),
        ("ConvNeXtXLarge", 2048, 224, "xlarge",
         "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05", "0 1 2"),
    ),
])
# fmt: on

NETWORKS = Registry("network", {name: _ALL[name] for name in CLASSIC5} | _ALL)
BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    {**NETWORKS, **ROWS},
    hint="Or give the path of a .keras, .onnx or .xml file; "
    "docs/reference/commands/extract.md lists all.",
)
