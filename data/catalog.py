"""Which images make up a set, where they come from, and how a copy is known to be right.

A set is a list of images, each with its size and the SHA-256 of its decoded uint8 pixels (height x width, or height x
width x 3 RGB, row by row), so that BMP and PNG copies count as the same image. Whatever the source, an image is
accepted only when its pixels hash right; file names do not matter.

T91: J. Yang, J. Wright, T. Huang, Y. Ma, "Image super-resolution via sparse representation", IEEE TIP 2010.
Set5: M. Bevilacqua et al., BMVC 2012. Set14: R. Zeyde, M. Elad, M. Protter, 2010.
sample: photographs that ship inside scikit-image (public domain or CC0, see its data/README.txt).
"""

import hashlib
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from data.images import IMAGE_SUFFIXES, image_size, list_images, read_image, write_png
from support.command_line import ROOT, UserError
from support.progress import progress

DATA_DIR = ROOT / "data"
DOWNLOAD_TIMEOUT = 15  # seconds without an answer
DOWNLOAD_SECONDS = 120  # for one file
DOWNLOAD_TRIES = 2
MAX_DOWNLOAD = 20_000_000  # bytes; the largest image of the catalogue is 1 MB


@dataclass(frozen=True)
class CatalogImage:
    """One image of a set: name without suffix, size in pixels, SHA-256 of its decoded pixels."""

    name: str
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Mirror:
    """A place that serves a set: base address, and the path below it of each file that may hold an image."""

    base: str
    paths: tuple


@dataclass(frozen=True)
class ImageSet:
    """A named set of images. held_out: names of those that a training set keeps for choosing the best epoch."""

    name: str
    images: tuple
    held_out: tuple = ()
    mirrors: tuple = ()
    shipped_in: str = ""  # the installed package whose files they are, instead of data/, a source or mirrors

    @property
    def manifest(self):
        """SHA-256 over names, sizes and pixel hashes: two sets with the same manifest are the same pixels."""
        return manifest_hash(self.images)


T91_IMAGES = """
t1 197x176 e000679eaef6d6e541f5628f4b1b154e4df9b29cdacb7a1ddc3bf9f53a800b07
t2 172x179 672029eda85912c0d47d1e3e89bf2705c9acacfd98acdef1e5323870019a4698
t3 191x155 98719f255050461bf5ef1f48845be6536cac999f11bba79a9b4d9f3ea07f94d6
t4 227x188 5d25fc7a7fe7894b6b9e005f4c976532384afe32cec47e320e3827dd8a82c588
t5 151x155 b48d5e36de15f6606ac72fcea51391b56bb7b6376778dac738956e78c55ad60e
t6 178x168 f18ad38f641dccc2c5e56b1a32526315d8d5a3ba9dccaf4d6f647513f0913e6e
t7 182x153 e290dd9b0927066731043ab8f94d289aaa7450761080f735da84ad090f860039
t8 180x190 a039250fcc65ea303ffed4aa5c50fea9e634c3edd0351406857230a5343a2f30
t9 119x105 66ab13b9e658a437d51d693a3527139de9a09cb7bb5ee00bb575b672f679ce95
t10 142x129 b39bf9ce682580ba1b8493304f3f1ecec4f1ab4f9973c677feca56a4d629fb9a
t11 207x190 f89267adeb5047c845d021d40e8e3958bb9fea1c3b53fcae90f99bf9963e84db
t12 114x119 4b9ac649c80b03398dbae41d5376e5fc43b95b914a68fa9a69b2c49bdcb7996d
t13 187x179 436d7005cca0ef9388a55d13453d5251ee1bcc5cd013191c2aaed5edbfec41b5
t14 157x163 42eac6577a5e6523bf4c28dfcf260917137afc4943f7ae54635c9064a2a0955f
t15 212x199 c1ca18ebbf9d65b3f544c5fdebc06f2338a7966c23d845eee2f6bad30f22ea51
t16 174x160 c23832bd0074b65391b444d6c27713d7b026dd5af1bdbc45375427909ed4c83e
t17 155x149 1617224c6dfafe5ed14321101c0aeac49bf7f7e1bb6bb516f5ce493e790798c1
t18 143x129 726aff27ed5d931de4d55f13492c3dffc706f549f8f29160fdc283bb3f5ab453
t19 179x178 6e693120f84d5d7c11623f8a697280612d9b659c4b3084fd07658ed20e2570d7
t20 78x78 3a39268c6fb74c1de6ce5fca44c53f65c47d2c8e86376f9414729cc61d07d652
t21 123x111 f1a9c34aef2cd70fb84a288546c99eaf68e0b2393639d1ec4276706c03ba9f0e
t22 150x132 fd1750a94f4f4ec1ed8a2b8eae7d5f82b389dc3d702e5fc39477a6d645ffdd7a
t23 128x122 5034689c8121569cd1b70c30931b62ddae37e2c3e8226dee7be2fdc36a928b52
t24 116x107 aecc7f92fb7b4f9c3e1bae2c4ae10890b3b1b9fc34d3a5b57f057c7cfef2243b
t25 210x198 fd3b0e71c0b4c256d5860700254df210550588c5eb925c1b2d2a06b973338cc8
t26 149x131 321703c40ae1a27ec154b1d9b962d0489e5dab638ad98c846a2acc7286842cfe
t27 241x174 ddd986b6cd42f218e3c8c856e44dd69f17f1aa248d1bcfe061d51b9963843a78
t28 187x164 646e62eec72816f885ffdd63c41df0253b9f64b91613d189efe076ce98557155
t29 189x154 b590a336940b29f099f3e8511436c2b8bcf20df7877e2fdc89cbc3b3a92a5634
t30 136x151 bd59cb0a24cf17d01ad2ec02ca63b0ad32f68c741f6b921730f2da4de154a1f4
t31 232x146 25168a485c15714d3be793b7b7f2d9464cded4fe32abb9aac332de99f4c852e1
t32 218x132 d7756bb07504ebf1330d738d0b0f0f04f1b55ce0162fb3ce7f20774a1786190a
t33 198x137 bb6524d7dcdb86edf0892c8ceedf7df00c6c377650ee586a728c7fbd50621161
t34 182x121 3fb599be31d6798acd67a2347301f7856032272b26c52576f56135a208a5477f
t35 230x181 c941755525342642b7cfe30b0f95ae6384d823d86472eddc084982e1abb8e519
t36 215x176 c4bd1fd3cf0e7e7871491f8f733f68f8a247599da6a5486506ad9dd6a7ded180
t37 431x241 0e9773724d6a47f60212b0fdf9c08dcb944e87abb398b4e6661c3eaf1adc3de2
t38 333x200 e8fe1d425fc5fb85fcf6ccb5b11c077e484d657612950c09b5ab2ad2c0c21b49
t39 314x209 fbe255c78800849dfb8bc91acb5129184d9228dbb86ba2825679a08ee7f140e0
t40 315x211 ab17e8d9451ffc251e8cdd68e031a2fafc4abaf1449607db6037fc097bef64b4
t42 365x185 1c14de190d009d80cf8679ea836b3c00c5342757526d671afbbd76c34aa973b7
t43 279x187 7612c112478cd5ea159bcacaf7774536be701ab31b2153355d349aabfbdb0e8e
t44 251x153 161e38aeae20cc107288d76a1172e33f8fa3444d34928169d1664ed108b253b8
t45 275x145 e723350745d6bcef7f7766eeb6bb5b3f3688a278786c285d00777ca7b364a65a
t46 508x233 a58f0db798e626d2cb1d4dabb3d0314ae4b47d5b60bd520eba7e08b49a42d200
t47 245x195 df4c3f51c72ba4158f869629260011905f890acc95e93cdec6090d98466d631e
t48 247x182 2e9cad7d345063fa982d706a60f692cd977fb5bbba1a51638c7ad941bb236f05
t49 334x242 edc1d2f14c145c74e3d76c961cf87fc1c0ef82cc0bcc5b6b9115c224da93c632
t50 330x262 4ee7232c7ebce400f5615563ffa076402c3b7d44d3760484845da658b4c5cc3a
t51 424x198 4196bdc3f75fe282ae8180af6b38d0a6c99f81a3b88f9ecba260a792d0e2a53a
t52 324x213 59c0f50f5efdae75668e219dc40331c9832241cc29851b5959a6a36907366a64
t53 285x277 c4b4d5cac6b997e909d5cc705fdac822e118fc4928f39c31307fd02b1781e83a
t54 276x185 f73de065cdff8189ba29d9e3a6a75509b4a1ef9f8411610f0f718a1a4f8c757b
t55 291x198 eaa31b7255028a11fdb2c5e0fd2ee25150a87c99b88bd965ec8a874ec8bfc248
t56 240x137 0411e6e35dce5fa9f04a36827ee964c6d0773f3fae65741c313e3db40058af04
t57 278x134 71cb7c13882b92a50a7e8ee6413dfa3feb76fe88c3ce4dda7d156f7d7ca273da
t58 219x202 3fe2ee76f72a204272d2390d70146d76e5d707eac9b53f0f54f0ed756097b069
t59 319x223 ea5ca07260d7f2e53fbf8aaf84ab523f0ed434c14f6663f8ad63e2e76bf83301
t60 246x191 ec671f44527a2974434935dde3515eb84cde0f24ab884d1316a9c0f785938171
t61 266x139 34e8c68dfcf8f81392750d9785931580502ea4fe8199fe535f4f9b6ca9a13056
t62 238x165 3f35ae7cc97117b6a31e46094eec76e20886046580bd9a493292286e81791d4d
t63 245x202 3039ec3e4b460f2388eb340700694adaf4b9bd5a151a59b157fc95ac54691512
t64 220x178 caaa75b5f3ef898ded7aeaaf434e26fce8a6cd570434ce2d540b6029c4cbea9e
t65 215x176 c4bd1fd3cf0e7e7871491f8f733f68f8a247599da6a5486506ad9dd6a7ded180
t66 395x197 2fac3339815c3cc3f146603370bfb28a335eabfea89f4b8cdf2d7159cb0539f7
tt1 387x350 dc97e1548951bf4ef14848425574483d4607894e38e6189318620f61cd2488bf
tt2 436x351 45692c71754c7f83bcfa214d4eca44a3ff411ef8d194f3111857ad7a422bbdf2
tt3 435x348 b46d0f5193dfc0fc226d18dbb29a98d2a2512cc1badadd141117781afc06e2f0
tt4 367x387 becca53572756321ba8a1728a53d4913880ce0d87ed8c02f814b380f71c071b2
tt5 444x305 66f180e989f6cb2e43d597960c7cb5f5fd701964db755348e865f01f1250d728
tt6 372x351 e0571a7b7f044294890e829e32e9512be30a6c8f59ba00bd808c827b249fd60c
tt7 249x191 11f30026a18f6e879bda4f69eacdd31a04f50db73fe9bbb55119f59fdd5e03ff
tt8 411x307 6be0c8e3db3ab3706ff3a4062c001d9ba1a48d0dbd0093eaddf74ff9a0be9ce9
tt9 435x334 e095507c78d1cb2c182db645124e2dc398d806d86ca48e8f8568b8e2f64fbe95
tt10 336x240 0a39a613dc28aa3d6ca3e9da17357ea9e791b6acb87b330cbb0ca0d10e09d745
tt12 383x298 2ca52189e33327b80e6aa69d06d6a926d9fae51f45a1ab342992f718fa9e1a81
tt13 316x309 a80ff66c41d20cad026324bc2ed4e463db2d44aba4f348bc6bad9de4d867b696
tt14 272x188 014e05029a9a015b616ea78b78b47a422b9727bf5935ed64030ae114587cb1f7
tt15 218x330 96784959139df4bf95e1c55409efaa30ad8d09a293ca4f18e4db2f5389f948cc
tt16 374x157 df6f871d545865636a149ea7af0e637cfd8df96a7cbe5e584923034f80da43bd
tt17 285x279 11223530ab9bb36bd9907b266824f88de0970857da6ee1de031f93bb6ebb98fc
tt18 195x163 f5e51bb18d1eff269ce25fc907c05ab5b368d1562356d07fb9e4e60193eb8cee
tt19 317x200 327ecbbd9e71d81240dfdf6017c12a21325e9d6a2618a378956ba685228b8952
tt20 374x237 2d6b826903f23dfe5928cf7867c8e56f09b0938cdfe62b7b46354fb823063fa3
tt21 413x309 3813b3abee9113f216ec35c14dce00e548c07839a1538afbfb7086c28c4d0096
tt22 247x219 dd68928e08d606270c26d562c7641e0e81215c1fde20b84e62310b421beb97be
tt23 288x314 0db92d58aac541786eb98ba57439fc3cbddc0cfa03c03300424583c824dd3422
tt24 373x303 b97c4a0bc270a3a4192e41b8fb2a28bcd8f8aaeca7d9f4c73607eb7d01db943a
tt25 432x320 de9ec7696d51c784f3065ce0bf42a2661beb80195853f5c85fe7d2cb00aaf09f
tt26 411x290 52843529161a0719af468afbdabbd2be51a70754cedd1d97870c89b0fcfed5d2
tt27 308x307 1dd727e7459c903b6cee8f6a7a090781d9fa11dc18585e423843c00f85999072
"""

SET5_IMAGES = """
baby 512x512 f14d515486b1a110a8f6a08b23114a7c0ef79e96337692bb48e24dfd8943b3b7
bird 288x288 0f7ca11adc96abc59dd08160fb99dc77a3732ffc7b903db6832eceeb5592dcbf
butterfly 256x256 200d3ae507119f83763ea74f31f54de31cad6a36ec478cae7a8eab2de2304163
head 280x280 1aca63a883d2cabd7a143dd452427305ca9fa8ab965d7202d9081fcce5cbd508
woman 228x344 6d9d5a40b83984bde434c44ae6e070484ec37b15741b4561c684b2001deb474f
"""

SET14_IMAGES = """
baboon 500x480 98907465928a27865658a818db29276338ea9eaf528f7dbe1515a0d800f74614
barbara 720x576 0267e5896588256605a865df7b6bbe7c346b8059e970bbf8cae99b0973f38cec
bridge 512x512 5dcb11614ab9734cbe24263b7abadf879df0c54a7b3b950de7f046d905fc4fa5
coastguard 352x288 59e27df80c33a7cbef338414b81a5745cc9bf8d72a6d9275d7c773cd9f149520
comic 250x361 57505129f413912195e0ef1875d3deb72259776ed934c455e12e5cbe743ac9f6
face 276x276 10729944d3efb29e5ec99a92cb80ddfa4a69f6853549ba9691a98dd81a01ebf7
flowers 500x362 806ffffa563c57c5c1583872a4c3aba620c3a590d61b68f0bbccf5aabaedd528
foreman 352x288 df44893b86c999937d2354ff96a9b56ccf95afbac530005bdb342f3b84eca818
lenna 512x512 467e7e33da6f66bd3b9a61510cb7ce87d7fd004d82d8a15e3febecd7a5f314c9
man 512x512 6b586ecfe5e768e612442c459430a451ba4490934d28ec7ac6c6ccfd025f802a
monarch 768x512 601d3e0f5563eeef71d45f8a89ac73cf2f3d546cf572b8f8744950d17927c0d8
pepper 512x512 a18d4e9adaa8677dbf9d454680ace6000767e81a349ddbebf988670d1623bb85
ppt3 529x656 a855ec6f6aae3f6e18fe4830751437f99f5735156da92c40208d87b1632fa530
zebra 586x391 caab9603b04192480c22bdb13717612760a531a7f127ee0fa6c471bf34ca6c52
"""

SAMPLE_IMAGES = """
astronaut 512x512 a8c429c18afa7b0fd5673e598d73a21225d94c864a71bbb3885126fdecb41071
chelsea 451x300 416b729128bfb2c3d1eb69bf9b1734a796293abc17939267b2dc94f8a5784031
camera 512x512 5cb24482a53416f99052258be2b1ee38cd31c559a70c8a8b321cba231b332e21
coffee 600x400 0ce2b51640b9c95f19617f03eabf40c3f0368589cc1ee1190b70966165ac184f
motorcycle_left 741x500 ca829467c1d4f427da9c4862ba43829da6ac90afe1f75735e95dba9e3fd9620b
brick 512x512 664a145c5253f0d66db1a12776785f0ea35a44cc7447ffc933f6d6118dc58643
grass 512x512 b18dae4c68bf850a7a7b28a29d1846c76be890665117b57fd125fe29c4d4ede6
gravel 512x512 3d51ad45f789cd8b98534b7af6bce774e499ead45421135afd757358c7230009
coins 384x303 e080cc03805f1fa70516c3cb84883d4633bda2a1b51841da7c22f3d14c072451
"""


def parse_images(text):
    """CatalogImages from lines of name, WIDTHxHEIGHT and hash."""
    rows = (line.split() for line in text.strip().splitlines())
    return tuple(CatalogImage(name, *map(int, size.split("x")), sha256) for name, size, sha256 in rows)


def manifest_hash(images):
    """SHA-256 of a list of CatalogImages, as hexadecimal digits."""
    lines = [f"{image.name} {image.width}x{image.height} {image.sha256}\n" for image in images]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def pixel_hash(pixels):
    """SHA-256 of an image's uint8 pixels, row by row, as hexadecimal digits."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def describe_image(name, pixels):
    """The CatalogImage of pixels in memory."""
    return CatalogImage(name, pixels.shape[1], pixels.shape[0], pixel_hash(pixels))


def github(repository, commit, paths):
    """A Mirror on GitHub at a fixed commit."""
    return Mirror(f"https://raw.githubusercontent.com/{repository}/{commit}/", tuple(paths))


T91 = parse_images(T91_IMAGES)
SET5 = parse_images(SET5_IMAGES)
SET14 = parse_images(SET14_IMAGES)
SAMPLE = parse_images(SAMPLE_IMAGES)

TEGG89 = ("tegg89/SRCNN-Tensorflow", "78be1a24697935fc39a3a8cf59a6632264afade7")
JINY2001 = ("jiny2001/dcscn-super-resolution", "d382bc30d41c94ac72f8cb148d61cc4864b3b380")
TWTYGQYY = ("twtygqyy/pytorch-vdsr", "514b021044018baf909e79f48392783daa592888")

# Copies of T91 go by two numberings: the authors' (t1 to t66 without t41, tt1 to tt27 without tt11) and t1 to t91.
T91_NAMES = [image.name for image in T91]
T91_NUMBERS = [f"t{number}" for number in range(1, 92)]

# Held out of T91: eight whole images, 6.6 % of the pixels, that together show what the set shows (petals, leaves, a
# face, bricks, a car, branches) and have no near-duplicate among the others.
T91_HELD_OUT = ("t6", "t47", "t54", "t60", "t62", "tt14", "tt18", "tt22")

TRAIN_SETS = {
    "T91": ImageSet(
        "T91",
        T91,
        held_out=T91_HELD_OUT,
        mirrors=(
            github(*TEGG89, (f"Train/{name}.bmp" for name in T91_NAMES)),
            github(*JINY2001, (f"data/yang91/{name}.bmp" for name in T91_NAMES)),
            github(*TEGG89, (f"Train/{name}.bmp" for name in T91_NUMBERS)),
            github(*JINY2001, (f"data/yang91/{name}.bmp" for name in T91_NUMBERS)),
        ),
    ),
    "sample": ImageSet("sample", SAMPLE[2:], held_out=("coins",), shipped_in="skimage.data"),
}
TEST_SETS = {
    "Set5": ImageSet(
        "Set5",
        SET5,
        mirrors=(
            github(*TEGG89, (f"Test/Set5/{image.name}_GT.bmp" for image in SET5)),
            github(*TWTYGQYY, (f"Set5/{image.name}_GT.bmp" for image in SET5)),
            github(*JINY2001, (f"data/set5/img_00{number}.png" for number in range(1, 6))),
        ),
    ),
    "Set14": ImageSet("Set14", SET14, mirrors=(github(*TEGG89, (f"Test/Set14/{image.name}.bmp" for image in SET14)),)),
    "sample": ImageSet("sample", SAMPLE[:2], shipped_in="skimage.data"),
}


def is_taken(name):
    """Whether a catalogued set has this name, to file systems that know no case, too."""
    return name.casefold() in {taken.casefold() for taken in (*TRAIN_SETS, *TEST_SETS)}


def find_images(image_set, data_dir=DATA_DIR, source=None, say=print):
    """Paths of verified copies of a set's images: {name: path}, in the set's order.

    Looks in data_dir/<set>/, then in `source` (a folder that holds the images, or a folder <set> with them), then at
    the mirrors in turn; what is found outside data_dir is copied there as PNG. say: called with lines for the user.
    Raises UserError when some image cannot be had anywhere.
    """
    if image_set.shipped_in:
        found = collect(image_set, Path(str(files(image_set.shipped_in))))
        if missing := missing_names(image_set, found):
            raise UserError(f"scikit-image's own photographs {', '.join(missing)} are not as expected; reinstall it")
        return in_order(image_set, found)

    home = Path(data_dir) / image_set.name
    found = collect(image_set, home)
    report_impostors(image_set, home, found, say)
    if source is not None and missing_names(image_set, found):
        source = Path(source)
        if not source.is_dir():
            raise UserError(f"source {source}: no such folder; name the folder that holds {image_set.name}")
        elsewhere = collect(image_set, source / image_set.name) | collect(image_set, source)
        for folder in (source / image_set.name, source):
            report_impostors(image_set, folder, elsewhere, say)
        for name in missing_names(image_set, found):
            if name in elsewhere:
                found[name] = home / f"{name}.png"
                write_png(found[name], read_image(elsewhere[name]))
    silent = set()  # hosts that did not answer: not asked again for their other mirrors
    for mirror in image_set.mirrors:
        host = urlsplit(mirror.base).netloc
        if missing_names(image_set, found) and host not in silent and not download(image_set, mirror, home, found, say):
            silent.add(host)
    if missing := missing_names(image_set, found):
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise UserError(
            f"{image_set.name}: {len(missing)} of {len(image_set.images)} images are missing ({names}); "
            f"put them in {home}, or name their folder with --source DIR or SR_DATA_SOURCE, or connect to the "
            "network for the mirrors"
        )
    return in_order(image_set, found)


def missing_names(image_set, found):
    """Names of the set's images that are not in `found`."""
    return [image.name for image in image_set.images if image.name not in found]


def in_order(image_set, found):
    """`found` sorted as the set lists its images."""
    return {image.name: found[image.name] for image in image_set.images}


def identify(image_set, pixels):
    """The names of the set's images that have these pixels: none, one, or two (T91's t36 and t65 are the same)."""
    found = describe_image("", pixels)
    key = (found.width, found.height, found.sha256)
    return [image.name for image in image_set.images if (image.width, image.height, image.sha256) == key]


def collect(image_set, folder):
    """{name: path} of the set's images among the files of `folder`, told by their pixels, whatever their names."""
    if not folder.is_dir():
        return {}
    sizes = {(image.width, image.height) for image in image_set.images}
    found = {}
    for path in list_images(folder):
        if image_size(path) not in sizes:  # read from the header: other people's photographs are not decoded
            continue
        try:
            names = identify(image_set, read_image(path))
        except UserError:
            continue
        for name in names:
            found.setdefault(name, path)
    return found


def report_impostors(image_set, folder, found, say):
    """Name each file that goes by the name of an image of the set which it is not."""
    for name in missing_names(image_set, found):
        for suffix in IMAGE_SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                say(f"{path}: its pixels are not those of {image_set.name}'s {name}; passed over")


def download(image_set, mirror, home, found, say):
    """Fetch missing images from one mirror into `home` and add them to `found`; returns whether the host answered.

    The first wrong, broken or absent file ends the visit: it is named, and the next mirror may have the rest. Only
    whole, verified images are ever written, so that a download that was cut off goes on where it stopped.
    """
    missing = set(missing_names(image_set, found))
    # Files named after images that are here already come last: some mirrors number the images in their own way.
    paths = sorted(mirror.paths, key=lambda path: Path(path).stem.removesuffix("_GT") in found)
    say(f"{image_set.name}: fetching {len(missing)} images from {mirror.base}")
    for path in progress(paths, image_set.name, "images"):
        if not missing:
            break
        try:
            names, pixels = decode_download(image_set, fetch(mirror.base + path))
        except (OSError, HTTPException, UserError) as error:
            say(f"{mirror.base}{path}: {error}; this mirror is passed over")
            return isinstance(error, HTTPError) or not isinstance(error, URLError)
        for name in missing.intersection(names):
            found[name] = home / f"{name}.png"
            write_png(found[name], pixels)
        missing.difference_update(names)
    return True


def decode_download(image_set, content):
    """(names, pixels) of a downloaded image of the set; raises UserError when it is none or broken."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"  # whatever the mirror calls it
        path.write_bytes(content)
        try:
            pixels = read_image(path)
        except UserError as error:
            raise UserError(str(error).removeprefix(f"{path}: ")) from error
    names = identify(image_set, pixels)
    if not names:
        raise UserError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels that are no image of {image_set.name}")
    return names, pixels


def fetch(address):
    """The bytes at an http(s) address; tried DOWNLOAD_TRIES times, at most MAX_DOWNLOAD bytes. Raises OSError."""
    for attempt in range(1, DOWNLOAD_TRIES + 1):
        try:
            return fetch_once(address)
        except OSError as error:
            final = isinstance(error, HTTPError) and error.code < 500
            if final or attempt == DOWNLOAD_TRIES:
                raise


def fetch_once(address):
    """One try of fetch: DOWNLOAD_TIMEOUT seconds for each answer, DOWNLOAD_SECONDS for the whole file."""
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    content = bytearray()
    with urlopen(address, timeout=DOWNLOAD_TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        while block := response.read1(1 << 16):
            content += block
            if len(content) > MAX_DOWNLOAD:
                raise OSError(f"more than {MAX_DOWNLOAD:,} bytes")
            if time.monotonic() > deadline:
                raise OSError(f"not whole after {DOWNLOAD_SECONDS} seconds")
    if length is not None and str(len(content)) != length.strip():
        raise OSError(f"cut short: {len(content)} of {length} bytes")
    return bytes(content)
